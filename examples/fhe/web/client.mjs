// The client: makes keys, encrypts rows, asks a `tacit serve-fhe`, decrypts answers. The secret key stays here.

import { DataError, KeyMismatchError, MessageError, ServiceError, insist, joined, sha256 } from "./bytes.mjs";
import { ordered } from "./encode.mjs";
import { readModel } from "./model.mjs";
import { SecretScheme } from "./seal.mjs";
import { Kind, MESSAGE_BYTES, cutAnswer, pack, packFresh, unpackAnswer } from "./wire.mjs";

const MOST_BYTES = 2 ** 28; // the longest body that is taken
const ERRORS = { 409: KeyMismatchError, 422: MessageError };

/** The few requests of the protocol. */
export class Remote {
  constructor(address, timeout = 60_000) {
    this.url = new URL(address);
    const here = ["localhost", "127.0.0.1", "[::1]"].includes(this.url.hostname);
    insist(this.url.protocol === "https:" || (this.url.protocol === "http:" && here), `${address} is neither https nor ` +
      "on this machine: anybody on the way could take the service's place", ServiceError);
    this.timeout = timeout;
  }

  clientFile = () => this.#request("GET", "/v1/client");
  register = (key) => this.#request("PUT", "/v1/keys", key);
  answer = (query) => this.#request("POST", "/v1/predict", query);

  async #request(method, path, body) {
    const address = this.url.href.replace(/\/$/, "") + path;
    let response, bytes;
    try {
      response = await fetch(address, {
        method, body, headers: body ? { "content-type": "application/octet-stream" } : {},
        credentials: "omit", redirect: "error", cache: "no-store", signal: AbortSignal.timeout(this.timeout),
      });
      bytes = await limited(response, address);
    } catch (error) {
      if (error instanceof ServiceError) throw error;
      throw new ServiceError(`no answer from ${this.url.origin}: is it there, and does it allow this page's origin?`);
    }
    if (response.ok) return bytes;
    let detail = response.statusText;
    try {
      detail = String(JSON.parse(new TextDecoder().decode(bytes)).detail).slice(0, 1000);
    } catch {} // what refused was no tacit service; its status says enough
    throw new (ERRORS[response.status] ?? ServiceError)(`${this.url.origin} refused: ${detail}`);
  }
}

async function limited(response, address) {
  const pieces = [];
  let size = 0;
  for (let reader = response.body.getReader(), part; !(part = await reader.read()).done; ) {
    size += part.value.length;
    if (size > MOST_BYTES) await reader.cancel();
    insist(size <= MOST_BYTES, `${address} sent more than ${MOST_BYTES} bytes`, ServiceError);
    pieces.push(part.value);
  }
  return joined(pieces);
}

/** Predicts on encrypted rows with a model that it does not have. */
export class Client {
  #scheme; #key; #public; #remote; #registered = false;

  /** Connect to a service: `seal` is what node-seal's default export returns. */
  static async connect(seal, address) {
    const remote = new Remote(address);
    const spec = readModel(await remote.clientFile());
    remote.timeout = Math.min(Math.max(remote.timeout, 7500 * spec.parameters.seconds), 600_000);
    return Client.of(seal, spec, remote);
  }

  /** A client with fresh keys for a model of `readModel`. */
  static async of(seal, spec, remote) {
    const client = new Client();
    client.spec = spec;
    client.#remote = remote;
    client.#scheme = new SecretScheme(seal, spec.parameters);
    const scheme = client.#scheme, switches = scheme.switchingKeys(spec.parameters.elements);
    const payload = joined([packFresh(...scheme.encrypt(new Float64Array(spec.parameters.degree)), scheme.primes),
      ...switches.map(([c0, seed]) => packFresh(c0, seed, scheme.keyPrimes))]);
    client.#key = (await sha256(payload)).subarray(0, 16);
    client.#public = await pack(Kind.PUBLIC_KEY, spec.id, client.#key, 0, 1 + switches.length, payload);
    return client;
  }

  /** The message that the server needs once, before the first query. */
  get publicKey() {
    return this.#public;
  }

  /** The integers of the rows, which are what is encrypted. */
  encode(rows) {
    insist(Array.isArray(rows), "give rows as an array of rows", DataError);
    return rows.map((row) => this.spec.encoder.encode(ordered(row, this.spec.front.names)));
  }

  /** Whether that many rows go with one coefficient a row, because it takes fewer bytes both ways. */
  bulk(rows) {
    const p = this.spec.parameters, layout = p.layout;
    const chunks = Math.ceil(rows / p.degree), packs = Math.ceil(rows / layout.samples);
    const byRow = chunks * (layout.length * p.uploadBytes + layout.outputs * (p.answerBytes + 6 * rows));
    const packed = packs * (layout.uploads * p.uploadBytes + layout.products * p.answerBytes);
    return this.spec.bulk && byRow < packed && layout.length * p.uploadBytes <= MESSAGE_BYTES;
  }

  /** A query for encoded rows. Every ciphertext is fresh, and none is kept to be sent again. */
  async encrypt(z) {
    const { degree, layout } = this.spec.parameters, bulk = this.bulk(z.length), polynomials = [];
    for (let at = 0; at < z.length; at += bulk ? degree : layout.samples) {
      const rows = z.slice(at, at + (bulk ? degree : layout.samples));
      polynomials.push(...(bulk ? columns(rows, degree) : layout.placeInputs(rows)));
    }
    const parts = polynomials.map((p) => packFresh(...this.#scheme.encrypt(p), this.#scheme.primes));
    return pack(bulk ? Kind.BULK_QUERY : Kind.QUERY, this.spec.id, this.#key, z.length, parts.length, joined(parts));
  }

  /** The integers in the answer to a query, row by row. */
  async decrypt(answer, query) {
    const bulk = query[10] === Kind.BULK_QUERY, p = this.spec.parameters;
    const kind = bulk ? Kind.BULK_ANSWER : Kind.ANSWER;
    const { rows, cutter } = await unpackAnswer(answer, kind, this.spec.id, this.#key, query);
    const table = [];
    for (let at = 0; at < rows; at += bulk ? p.degree : p.layout.samples) {
      const here = Math.min(bulk ? p.degree : p.layout.samples, rows - at), block = Array.from({ length: here }, () => []);
      for (let product = 0; product < (bulk ? p.layout.outputs : p.layout.products); product++) {
        const positions = bulk ? Array.from({ length: here }, (_, i) => i) : p.layout.positions(product, here);
        const residues = cutAnswer(cutter, p.degree, positions, this.#scheme.primes[0], p.trim_bits);
        const values = this.#scheme.decrypt(residues, positions), each = values.length / here;
        block.forEach((row, i) => row.push(...values.slice(i * each, (i + 1) * each)));
      }
      table.push(...block);
    }
    cutter.finish();
    return table.map((row) => this.spec.reader.read(row, p.moduli));
  }

  /** For each row, the decrypted integers and the encoded row itself. */
  async values(rows) {
    insist(this.#remote, "this client has no service: use encrypt and decrypt", ServiceError);
    if (!this.#registered) await this.#remote.register(this.#public);
    this.#registered = true;
    const z = this.encode(rows), p = this.spec.parameters, out = [];
    while (out.length < z.length) {
      const most = this.bulk(z.length - out.length) ? p.degree : p.mostRows;
      const chunk = z.slice(out.length, out.length + most), query = await this.encrypt(chunk);
      const table = await this.decrypt(await this.#ask(query), query);
      out.push(...table.map((values, i) => [values, chunk[i]]));
    }
    return out;
  }

  async #ask(query) {
    try {
      return await this.#remote.answer(query);
    } catch (error) {
      if (!(error instanceof KeyMismatchError)) throw error;
      await this.#remote.register(this.#public); // the service has forgotten the key
      return this.#remote.answer(query);
    }
  }

  async predict(rows) {
    return (await this.values(rows)).map(([values, z]) => this.spec.head.predict(values, z));
  }

  async probabilities(rows) {
    return (await this.values(rows)).map(([values, z]) => this.spec.head.probabilities(values, z));
  }

  async decision(rows) {
    return (await this.values(rows)).map(([values, z]) => this.spec.head.scores(values, z));
  }

  /** Forget the key. */
  close() {
    this.#scheme.close();
  }
}

/** One polynomial for each column, whose coefficient is a row. */
function columns(rows, degree) {
  return Array.from({ length: rows[0].length }, (_, j) => {
    const out = new Float64Array(degree);
    rows.forEach((row, i) => (out[i] = row[j]));
    return out;
  });
}
