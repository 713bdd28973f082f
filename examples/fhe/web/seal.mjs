// Microsoft SEAL, compiled to WebAssembly by node-seal: the few operations that a client needs, on arrays of numbers.
//
// Keys and errors come from the browser's crypto.getRandomValues, with which node-seal seeds SEAL's generator. The
// secret key stays in this module's memory; there is no function here that would give it out.

import { MessageError, TacitError, insist, joined } from "./bytes.mjs";

const MAGIC = 0xa15e, HEADER = 16, SEED_BYTES = 64, CIPHERTEXT = 32 + 1 + 5 * 8, PLAINTEXT = 32 + 8 + 8;
const BATCHING = 65537; // a prime that is 1 modulo 2 * 8192: SEAL makes keys of automorphisms for such moduli only

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
  #seal; #context; #secret; #encryptor; #decryptor; #version;

  constructor(seal, parameters) {
    this.#seal = seal;
    this.degree = parameters.degree;
    this.modulus = parameters.plain_modulus;
    this.bits = [...parameters.data_bits, parameters.special_bits];
    this.#context = this.#contextOf(this.modulus);
    const generator = new seal.KeyGenerator(this.#context);
    const secret = (this.#secret = generator.secretKey()), unused = generator.createPublicKey();
    this.#encryptor = new seal.Encryptor(this.#context, unused, secret);
    this.#decryptor = new seal.Decryptor(this.#context, secret);
    const zero = new seal.Plaintext(1);
    this.#version = this.#saved(zero).subarray(3, 5);
    for (const item of [generator, unused, zero]) item.delete();
  }

  #contextOf(modulus) {
    const seal = this.#seal, settings = new seal.EncryptionParameters(seal.SchemeType.bfv);
    settings.setPolyModulusDegree(this.degree);
    const chain = seal.CoeffModulus.Create(this.degree, Int32Array.of(...this.bits));
    this.keyPrimes = this.bits.map((_, i) => Number(chain.get(i).value()));
    this.primes = this.keyPrimes.slice(0, -1);
    settings.setCoeffModulus(chain);
    settings.setPlainModulus(new seal.Modulus(BigInt(modulus)));
    const context = new seal.SEALContext(settings, true, seal.SecLevelType.tc128);
    insist(context.parametersSet(), "SEAL refuses the parameters of this model");
    for (const item of [settings, chain]) item.delete();
    return context;
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

  #loaded(item, box, context = this.#context) {
    try {
      item.loadFromArray(context, box);
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

  /** [c0 under each prime and the special one, seed] of each digit of the key for each automorphism X -> X^a. */
  switchingKeys(elements) {
    if (elements.length === 0) return [];
    const seal = this.#seal, context = this.#contextOf(BATCHING), secret = new seal.SecretKey();
    const raw = this.#saved(this.#secret); // a key has nothing to do with the plaintext's modulus but for its name
    raw.set(identifier(context.keyParmsId()), HEADER);
    this.#loaded(secret, raw, context);
    raw.fill(0);
    const generator = new seal.KeyGenerator(context, secret), steps = elements.map((a) => logarithm(a, 2 * this.degree));
    const keys = generator.createGaloisKeysSerializableWithSteps(Int32Array.from(steps));
    const found = this.#digits(this.#saved(keys));
    for (const item of [keys, generator, secret, context]) item.delete();
    insist(elements.every((a) => found.get(a)?.length === this.primes.length),
      "this build of SEAL does not write what Tacit reads", TacitError);
    return elements.flatMap((a) => found.get(a));
  }

  /** What SEAL has saved: for each odd element the number of digits, and these, each [c0, seed] in boxes. */
  #digits(raw) {
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength), found = new Map();
    const count = this.keyPrimes.length * this.degree, head = 2 * HEADER + CIPHERTEXT + 8, tail = HEADER + 1 + SEED_BYTES;
    for (let slot = 0, at = HEADER + 40; slot < this.degree; slot++) {
      const digits = Array.from({ length: view.getUint32(at, true) }, (_, i) => {
        const from = at + 8 + i * (head + 8 * count + tail) + head;
        const c0 = numbers(raw.subarray(from), count), end = from + 8 * count + tail;
        return [this.keyPrimes.map((_, k) => c0.subarray(k * this.degree, (k + 1) * this.degree)),
          raw.slice(end - SEED_BYTES, end)];
      });
      if (digits.length > 0) found.set(2 * slot + 1, digits);
      at += 8 + digits.length * (head + 8 * count + tail);
    }
    return found;
  }

  /** The coefficients at `positions` of an answer (under the first prime), centred: in (-t/2, t/2]. */
  decrypt([c0, c1], positions) {
    const name = identifier(this.#context.lastParmsId());
    const head = little(CIPHERTEXT - 32, ["setUint8", 0, 0], ["setUint32", 1, 2], ["setUint32", 9, this.degree],
      ["setUint32", 17, 1], ["setFloat64", 25, 1], ["setUint32", 33, 1]);
    const box = this.#boxed(name, head, this.#array(joinedNumbers(c0, c1)));
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
    for (const item of [this.#encryptor, this.#decryptor, this.#secret, this.#context]) item.delete();
  }
}

function joinedNumbers(a, b) {
  const out = new Float64Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

/** The name that SEAL gives to parameters, as bytes. */
function identifier(parms) {
  const id = parms.values(), name = new BigUint64Array(4);
  for (let i = 0; i < 4; i++) name[i] = BigInt(id[i] ?? id.get(i));
  return new Uint8Array(name.buffer);
}

/** k with 3^k = value, modulo a power of two: SEAL's number of steps for that automorphism. */
function logarithm(value, modulus) {
  for (let k = 1, power = 3; k < modulus / 4; k++, power = (power * 3) % modulus) if (power === value) return k;
  throw new TacitError("SEAL has no such automorphism");
}
