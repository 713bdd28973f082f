// The client's half of a model: a safetensors file with JSON in it. Data only; every field is checked, and a kind or a
// field that this program does not know is refused, since leaving it out would give other predictions.

import { MessageError, counts, insist } from "./bytes.mjs";
import { Affine, LeafEncoder, MixedBits, MixedLeaves, Monomials, Quantizer, Thermometer } from "./encode.mjs";
import { ForestReader, HEADS, Head, NeighborReader, PlainReader, VoteReader } from "./read.mjs";
import { MESSAGE_BYTES } from "./wire.mjs";

const FORMAT = 2;
const RINGS = ["4096 46,47 16", "8192 47,47,47 17", "8192 47,47,47,47 17"], SPREAD_RING = "8192 47,47,47 47";
const UNFIT = "this layout does not fit its ring";

class Layout {
  static fields = ["degree", "length", "outputs", "groups", "per_product", "samples"];

  constructor(fields) {
    Object.assign(this, fields);
    insist(Object.keys(fields).every((name) => counts(this[name], 1, 2 ** 24)) && this.groups <= this.length, UNFIT);
    this.block = Math.ceil(this.length / this.groups);
    this.stride = this.per_product * this.block;
    this.products = Math.ceil(this.outputs / this.per_product);
    this.check();
  }

  check() {
    insist(this.samples * this.stride <= this.degree, UNFIT);
    this.uploads = this.groups;
  }

  /** Where an output's weight for the input `block` - 1 - `at` of a group lies. */
  exponent(offset, at) {
    return offset * this.block + at;
  }

  /** The coefficients of answer ciphertext `product` that hold outputs, row by row of the data. */
  positions(product, samples) {
    const here = Math.min(this.per_product, this.outputs - product * this.per_product), out = [];
    for (let row = 0; row < samples; row++)
      for (let o = 0; o < here; o++) out.push(row * this.stride + this.exponent(o, this.block - 1));
    return out;
  }

  /** The polynomials, one for each ciphertext, of up to `samples` encoded rows. */
  placeInputs(rows) {
    return Array.from({ length: this.groups }, (_, group) => {
      const out = new Float64Array(this.degree);
      rows.forEach((row, i) => out.set(row.subarray(group * this.block, (group + 1) * this.block), i * this.stride));
      return out;
    });
  }
}

/** Inputs that the server spreads: of each ciphertext it makes `pieces`, by keys that a client sends once. */
class SpreadLayout extends Layout {
  static fields = [...Layout.fields, "pieces"];

  check() {
    insist(this.samples === 1 && Number.isInteger(Math.log2(this.pieces)) && this.block * this.pieces <= this.degree &&
      this.per_product <= this.pieces * Math.floor(this.degree / this.pieces / this.block), UNFIT);
    this.uploads = Math.ceil(this.groups / this.pieces);
  }

  exponent(offset, at) {
    return (offset % this.pieces) + this.pieces * (Math.floor(offset / this.pieces) * this.block + at);
  }

  placeInputs([row]) {
    const out = Array.from({ length: this.uploads }, () => new Float64Array(this.degree));
    row.forEach((value, j) => {
      const group = Math.floor(j / this.block), piece = group % this.pieces;
      out[Math.floor(group / this.pieces)][(j % this.block) * this.pieces + piece] = value;
    });
    return out;
  }
}

class Parameters {
  static fields = ["degree", "data_bits", "special_bits", "plain_modulus", "layout", "flood_bits", "trim_bits", "moduli"];

  constructor(fields) {
    Object.assign(this, fields);
    const ring = `${this.degree} ${this.data_bits} ${this.special_bits}`;
    const spread = this.layout instanceof SpreadLayout, known = spread ? ring === SPREAD_RING : RINGS.includes(ring);
    insist(known && this.layout instanceof Layout && this.layout.degree === this.degree,
      "these encryption parameters are not among the checked ones");
    insist(counts(this.plain_modulus, 2, 2 ** 32) && counts(this.trim_bits, 0, this.data_bits[0] - 1) &&
      Array.isArray(this.moduli) && this.moduli.length > 0 && this.moduli.every((t) => counts(t, 2, 2 ** 32)) &&
      this.moduli.reduce((a, b) => a * b, 1) === this.plain_modulus, "these encryption parameters are out of range");
    this.uploadBytes = (this.data_bits.reduce((a, b) => a + b) * this.degree) / 8 + 64;
    this.answerBytes = Math.floor(((this.data_bits[0] - this.trim_bits) * this.degree) / 8);
    const levels = spread ? Math.log2(this.layout.pieces) : 0;
    this.elements = Array.from({ length: levels }, (_, level) => this.degree / 2 ** level + 1); // of automorphisms
    const { products, groups, uploads, samples } = this.layout; // parameters.py: a client cuts where a service would
    this.seconds = products * (groups + 1) * (2e-4 + 1.8e-8 * this.degree * this.data_bits.length) +
      (spread ? groups * this.degree * 4e-7 : 0);
    const packs = Math.min(Math.floor(MESSAGE_BYTES / (uploads * this.uploadBytes)),
      Math.floor(2 ** 27 / (products * Math.max(this.answerBytes, 1))), Math.floor(8 / this.seconds));
    this.mostRows = Math.max(packs, 1) * samples;
  }
}

class Front {
  static fields = ["names", "steps"];

  constructor({ names, steps }) {
    insist(Array.isArray(names) && names.every((name) => typeof name === "string"), "this model file is damaged");
    insist(steps === null, "the client of this model runs scikit-learn steps before it encrypts, which a browser " +
      "cannot: apply them before, and compile the model behind them by itself");
    this.names = names;
  }
}

class Classes {
  static fields = ["values", "dtype"];

  constructor({ values, dtype }) {
    insist(Array.isArray(values) && typeof dtype === "string", "the labels of this model file are damaged");
    insist(!/^[<>=|]?[mM]/.test(dtype), "labels that are dates are read by the Python client only");
    const known = { string: true, boolean: true };
    insist(values.every((v) => known[typeof v] || (typeof v === "number" && Math.abs(v) <= Number.MAX_SAFE_INTEGER)),
      "the labels of this model file are damaged");
    this.values = values;
  }
}

class ClientSpec {
  static fields = ["model", "name", "parameters", "bulk", "front", "encoder", "reader", "head"];

  constructor(fields) {
    Object.assign(this, fields);
    const encoders = [Quantizer, Thermometer, LeafEncoder, MixedBits, MixedLeaves];
    const readers = [PlainReader, ForestReader, VoteReader, NeighborReader];
    const one = (kinds, item) => kinds.some((kind) => item instanceof kind);
    insist(this.parameters instanceof Parameters && this.front instanceof Front && one(encoders, this.encoder) &&
      one(readers, this.reader) && this.head instanceof Head && typeof this.bulk === "boolean" &&
      typeof this.name === "string" && typeof this.model === "string" && /^[0-9a-f]{32}$/.test(this.model) &&
      this.encoder.length === this.parameters.layout.length,
      "this tacit.fhe model file is damaged: its parts do not belong together");
    this.id = Uint8Array.from(this.model.match(/../g), (pair) => parseInt(pair, 16));
  }
}

const KINDS = new Map(Object.entries({
  Layout, SpreadLayout, Parameters, Front, Classes, ClientSpec, Affine, Monomials, Quantizer, Thermometer, LeafEncoder, MixedBits, MixedLeaves, PlainReader, ForestReader,
  VoteReader, NeighborReader, ...HEADS,
}));

const READ = {
  F64: [8, (view, at) => view.getFloat64(at, true)],
  F32: [4, (view, at) => view.getFloat32(at, true)],
  I64: [8, (view, at) => Number(view.getBigInt64(at, true))],
  I32: [4, (view, at) => view.getInt32(at, true)],
};

function tensor(entry, view, start) {
  const [size, get] = READ[entry.dtype], [from, to] = entry.data_offsets, shape = entry.shape;
  const count = shape.reduce((a, b) => a * b, 1);
  insist(shape.every((extent) => counts(extent, 0, 2 ** 32)) && counts(from, 0, to) && to - from === count * size &&
    start + to <= view.byteLength, "this model file is damaged");
  const values = Float64Array.from({ length: count }, (_, i) => get(view, start + from + i * size));
  insist(values.every((value) => (entry.dtype[0] === "F" ? !Number.isNaN(value) : Number.isSafeInteger(value))),
    "this model file is damaged");
  return Object.assign(values, { shape });
}

function rebuilt(tree, tensors) {
  if (Array.isArray(tree)) return tree.map((part) => rebuilt(part, tensors));
  if (tree === null || typeof tree !== "object") return tree;
  if (Object.hasOwn(tree, "tensor")) {
    insist(tensors.has(tree.tensor), "this model file is damaged");
    return tensors.get(tree.tensor);
  }
  const kind = KINDS.get(tree.kind);
  insist(kind, `this model needs a client that knows ${JSON.stringify(String(tree.kind).slice(0, 40))}: use the Python one`);
  const { kind: _, ...fields } = tree;
  insist(kind.fields.length === Object.keys(fields).length && kind.fields.every((name) => Object.hasOwn(fields, name)),
    `this model file has other fields in its ${tree.kind} than this program knows`);
  const values = Object.fromEntries(kind.fields.map((name) => [name, rebuilt(fields[name], tensors)]));
  insist(Object.entries(values).every(([name, value]) => !(value instanceof Float64Array) || kind.infinite === name ||
    value.every(Number.isFinite)), "this model file is damaged");
  return new kind(values);
}

/** The client's half in the bytes of its file. */
export function readModel(raw) {
  try {
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    const size = Number(view.getBigUint64(0, true));
    const text = new TextDecoder("utf-8", { fatal: true });
    const header = JSON.parse(text.decode(raw.subarray(8, 8 + size)));
    const record = JSON.parse(header.__metadata__["tacit.fhe"]);
    insist(record.format === FORMAT, `this model file is of another format than ${FORMAT}`);
    const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
    const tensors = new Map(entries.map(([name, entry]) => [name, tensor(entry, view, 8 + size)]));
    const spec = rebuilt(record.spec, tensors);
    insist(spec instanceof ClientSpec, "expected a client's file");
    return spec;
  } catch (error) {
    if (error instanceof MessageError) throw error;
    throw new MessageError("this is not a tacit.fhe model file, or it is damaged");
  }
}
