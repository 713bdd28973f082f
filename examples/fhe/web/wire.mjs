// The three messages of wire.py: a public key, a query, an answer. Flat binary, bound to model, key and query.
//
//   magic "TACITFHE" | version u16 | kind u8 | 0 u8 | model 16 B | key 16 B | reference 32 B | rows u32 | parts u32
//   payload | SHA-256 of all of the above

import { Cutter, KeyMismatchError, insist, joined, packBits, packedSize, same, sha256, unpackBits } from "./bytes.mjs";

export const Kind = { PUBLIC_KEY: 1, QUERY: 2, ANSWER: 3, BULK_QUERY: 4, BULK_ANSWER: 5 };
export const MESSAGE_BYTES = 32 * 2 ** 20;
const MAGIC = new TextEncoder().encode("TACITFHE");
const VERSION = 1, HEAD = 84, DIGEST = 32, MAX_ROWS = 2 ** 20;

export const bitLength = (q) => q.toString(2).length;

export async function pack(kind, model, key, rows, parts, payload) {
  const head = new Uint8Array(HEAD);
  const view = new DataView(head.buffer);
  head.set(MAGIC, 0);
  view.setUint16(8, VERSION, true);
  view.setUint8(10, kind);
  head.set(model, 12);
  head.set(key, 28);
  view.setUint32(76, rows, true);
  view.setUint32(80, parts, true);
  const body = joined([head, payload]);
  return joined([body, await sha256(body)]);
}

/** The rows and the payload of an answer to `query`, or what is wrong with it. */
export async function unpackAnswer(raw, kind, model, key, query) {
  insist(raw.length >= HEAD + DIGEST && same(raw.subarray(0, 8), MAGIC),
    "this is not a tacit.fhe message (or it was cut short)");
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const version = view.getUint16(8, true);
  insist(version === VERSION, `this message is of format version ${version}; this program speaks version ${VERSION}`);
  insist(same(await sha256(raw.subarray(0, -DIGEST)), raw.subarray(-DIGEST)),
    "this message was damaged or changed on its way: its digest does not match");
  insist(raw[10] === kind, `expected message ${kind} here, not one of kind ${raw[10]}`);
  insist(same(raw.subarray(12, 28), model),
    "this message was made for another model (or for another compilation of this one)", KeyMismatchError);
  insist(same(raw.subarray(28, 44), key), "this answer was made for another client's key", KeyMismatchError);
  insist(same(raw.subarray(44, 76), await sha256(query)), "this answer belongs to another query", KeyMismatchError);
  const rows = view.getUint32(76, true);
  const asked = new DataView(query.buffer, query.byteOffset).getUint32(76, true);
  insist(rows === asked && rows <= MAX_ROWS, "this answer has more or fewer rows than its query");
  return { rows, cutter: new Cutter(raw.subarray(HEAD, -DIGEST)) };
}

/** A seeded ciphertext: c0 under each prime, then the seed. */
export const packFresh = (c0, seed, primes) => joined([...c0.map((row, i) => packBits(row, bitLength(primes[i]))), seed]);

/** The next answer of a payload: c0 at `positions` only, c1 with its low bits as half their range. */
export function cutAnswer(cutter, degree, positions, q, trim) {
  const bits = bitLength(q), step = 2 ** trim, half = trim > 0 ? step / 2 : 0;
  const c0 = new Float64Array(degree), c1 = unpackBits(cutter.take(packedSize(degree, bits - trim)), degree, bits - trim);
  const first = unpackBits(cutter.take(packedSize(positions.length, bits)), positions.length, bits);
  for (let i = 0; i < degree; i++) {
    const high = c1[i] * step;
    insist(high < q, "this message holds a ciphertext that is out of range");
    c1[i] = Math.min(high + half, q - 1);
  }
  positions.forEach((position, i) => {
    insist(first[i] < q, "this message holds a ciphertext that is out of range");
    c0[position] = first[i];
  });
  return [c0, c1];
}
