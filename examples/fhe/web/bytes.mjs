// Bytes: what can be wrong, packed bits, SEAL's boxes. The other side of Tacit's wire.py.

export class TacitError extends Error {}

/** Bytes that are not what they should be. */
export class MessageError extends TacitError {}

/** Bytes of another model, key or query. */
export class KeyMismatchError extends TacitError {}

/** A service that does not answer, or may not be asked. */
export class ServiceError extends TacitError {}

/** Rows that cannot be encrypted. */
export class DataError extends TacitError {}

export function insist(condition, message, kind = MessageError) {
  if (!condition) throw new kind(message);
}

export const counts = (value, least, most) => Number.isSafeInteger(value) && value >= least && value <= most;

export function joined(pieces) {
  const out = new Uint8Array(pieces.reduce((total, piece) => total + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

export const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const packedSize = (count, bits) => Math.ceil((count * bits) / 8);

const LOW = 2 ** 24;

/** Whole numbers below 2^bits (at most 48), `bits` bits each, little-endian. */
export function packBits(values, bits) {
  const out = new Uint8Array(packedSize(values.length, bits));
  let at = 0, held = 0, kept = 0; // `held` has `kept` < 8 bits; 24 more stay below 2^32
  const put = (part, width) => {
    held += part * 2 ** kept;
    for (kept += width; kept >= 8; kept -= 8) {
      out[at++] = held % 256;
      held = Math.floor(held / 256);
    }
  };
  for (const value of values) {
    put(value % LOW, Math.min(bits, 24));
    if (bits > 24) put(Math.floor(value / LOW), bits - 24);
  }
  if (kept > 0) out[at] = held;
  return out;
}

/** What `packBits` packed. */
export function unpackBits(raw, count, bits) {
  insist(raw.length === packedSize(count, bits), "this message has the wrong length for its parameters");
  const out = new Float64Array(count);
  let at = 0, held = 0, kept = 0;
  const take = (width) => {
    for (; kept < width; kept += 8) held += raw[at++] * 2 ** kept;
    const part = held % 2 ** width;
    held = Math.floor(held / 2 ** width);
    kept -= width;
    return part;
  };
  for (let i = 0; i < count; i++) {
    out[i] = take(Math.min(bits, 24));
    if (bits > 24) out[i] += take(bits - 24) * LOW;
  }
  return out;
}

/** Cuts a payload into pieces of known sizes, and insists that nothing is missing or left over. */
export class Cutter {
  #payload;
  #at = 0;

  constructor(payload) {
    this.#payload = payload;
  }

  take(size) {
    insist(this.#at + size <= this.#payload.length, "this message is shorter than its header says");
    this.#at += size;
    return this.#payload.subarray(this.#at - size, this.#at);
  }

  finish() {
    insist(this.#at === this.#payload.length, "this message is longer than its header says");
  }
}
