// Microsoft SEAL, compiled to WebAssembly by node-seal: the few operations that a client needs, on arrays of numbers.
//
// Keys and errors come from the browser's crypto.getRandomValues, with which node-seal seeds SEAL's generator. The
// secret key stays in this module's memory; there is no function here that would give it out.

import { MessageError, TacitError, insist, joined } from "./bytes.mjs";

const MAGIC = 0xa15e, HEADER = 16, SEED_BYTES = 64, CIPHERTEXT = 32 + 1 + 5 * 8, PLAINTEXT = 32 + 8 + 8;

function words(values) {
  const out = new Uint32Array(2 * values.length);
  for (let i = 0; i < values.length; i++) {
    out[2 * i] = values[i] % 2 ** 32;
    out[2 * i + 1] = values[i] / 2 ** 32;
  }
  return new Uint8Array(out.buffer);
}

function numbers(bytes, count) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float64Array.from({ length: count }, (_, i) =>
    view.getUint32(8 * i, true) + 2 ** 32 * view.getUint32(8 * i + 4, true));
}

function little(size, ...puts) {
  const view = new DataView(new ArrayBuffer(size));
  for (const [how, at, value] of puts) view[how](at, value, true);
  return new Uint8Array(view.buffer);
}

/** SEAL set up for one parameter set, with a secret key that was just drawn. */
export class SecretScheme {
  #seal; #context; #encryptor; #decryptor; #version;

  constructor(seal, parameters) {
    this.#seal = seal;
    this.degree = parameters.degree;
    this.modulus = parameters.plain_modulus;
    const settings = new seal.EncryptionParameters(seal.SchemeType.bfv);
    settings.setPolyModulusDegree(this.degree);
    const chain = seal.CoeffModulus.Create(this.degree, Int32Array.of(...parameters.data_bits, parameters.special_bits));
    this.primes = parameters.data_bits.map((_, i) => Number(chain.get(i).value()));
    settings.setCoeffModulus(chain);
    settings.setPlainModulus(new seal.Modulus(BigInt(this.modulus)));
    this.#context = new seal.SEALContext(settings, true, seal.SecLevelType.tc128);
    insist(this.#context.parametersSet(), "SEAL refuses the parameters of this model");
    const generator = new seal.KeyGenerator(this.#context);
    const secret = generator.secretKey(), unused = generator.createPublicKey();
    this.#encryptor = new seal.Encryptor(this.#context, unused, secret);
    this.#decryptor = new seal.Decryptor(this.#context, secret);
    const zero = new seal.Plaintext(1);
    this.#version = this.#saved(zero).subarray(3, 5);
    for (const item of [settings, chain, generator, secret, unused, zero]) item.delete();
  }

  #saved(item) {
    return Uint8Array.from(item.saveToArray(this.#seal.ComprModeType.none));
  }

  #boxed(...pieces) {
    const body = joined(pieces);
    const head = little(HEADER, ["setUint16", 0, MAGIC], ["setUint8", 2, HEADER], ["setUint32", 8, HEADER + body.length]);
    head.set(this.#version, 3);
    return joined([head, body]);
  }

  #array(values) {
    return this.#boxed(little(8, ["setUint32", 0, values.length]), words(values));
  }

  #loaded(item, box) {
    try {
      item.loadFromArray(this.#context, box);
    } catch {
      item.delete();
      throw new MessageError("SEAL refuses this message");
    }
    return item;
  }

  /** [c0 under each prime, seed of c1] of a symmetric encryption of integers. */
  encrypt(coefficients) {
    const t = this.modulus, residues = Float64Array.from(coefficients, (value) => ((value % t) + t) % t);
    const body = this.#boxed(little(PLAINTEXT, ["setUint32", 32, residues.length], ["setFloat64", 40, 1]),
      this.#array(residues));
    const plain = this.#loaded(new this.#seal.Plaintext(), body);
    const made = this.#encryptor.encryptSymmetricSerializable(plain);
    const raw = this.#saved(made), start = HEADER + CIPHERTEXT + HEADER + 8;
    made.delete();
    plain.delete();
    const c0 = numbers(raw.subarray(start), this.primes.length * this.degree);
    const rows = this.primes.map((q, i) => c0.subarray(i * this.degree, (i + 1) * this.degree));
    const tail = raw.subarray(-(SEED_BYTES + HEADER + 1)); // a box: the generator's kind (1: Blake2xb) and the seed
    const seeded = raw.length === start + 8 * c0.length + tail.length && tail[HEADER] === 1;
    insist(seeded && rows.every((row, i) => row.every((value) => value < this.primes[i])),
      "this build of SEAL does not write what Tacit reads", TacitError);
    return [rows, tail.subarray(HEADER + 1)];
  }

  /** The coefficients at `positions` of an answer (under the first prime), centred: in (-t/2, t/2]. */
  decrypt([c0, c1], positions) {
    const id = this.#context.lastParmsId().values();
    const name = new BigUint64Array(4);
    for (let i = 0; i < 4; i++) name[i] = BigInt(id[i] ?? id.get(i));
    const head = little(CIPHERTEXT - 32, ["setUint8", 0, 0], ["setUint32", 1, 2], ["setUint32", 9, this.degree],
      ["setUint32", 17, 1], ["setFloat64", 25, 1], ["setUint32", 33, 1]);
    const box = this.#boxed(new Uint8Array(name.buffer), head, this.#array(joinedNumbers(c0, c1)));
    const ciphertext = this.#loaded(new this.#seal.Ciphertext(), box), plain = new this.#seal.Plaintext();
    let values;
    try {
      this.#decryptor.decrypt(ciphertext, plain);
      const count = plain.coeffCount(), raw = this.#saved(plain);
      values = numbers(raw.subarray(HEADER + PLAINTEXT + HEADER + 8), count);
    } catch {
      throw new MessageError("SEAL cannot decrypt this message");
    } finally {
      ciphertext.delete();
      plain.delete();
    }
    const t = this.modulus, half = Math.floor(t / 2);
    return positions.map((i) => (i < values.length ? (values[i] > half ? values[i] - t : values[i]) : 0));
  }

  /** Forget the key. */
  close() {
    for (const item of [this.#encryptor, this.#decryptor, this.#context]) item.delete();
  }
}

function joinedNumbers(a, b) {
  const out = new Float64Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
