// From a row of numbers to the integers that are encrypted: encode.py, operation by operation.

import { DataError, counts, insist } from "./bytes.mjs";

const DAMAGED = "this model file is damaged: a field is missing or of the wrong kind";
const MOST = 2 ** 24; // integers a row; a message holds fewer

const vector = (item) => item instanceof Float64Array && item.shape.length === 1;

/** Round halves to the even neighbour, as NumPy does. */
export function rint(value) {
  return Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);
}

export class Affine {
  static fields = ["matrix", "offset"];

  constructor(fields) {
    Object.assign(this, fields);
    insist(this.matrix instanceof Float64Array && this.matrix.shape.length === 2 && vector(this.offset) &&
      this.matrix.shape[0] === this.offset.length, DAMAGED);
    [this.rows, this.columns] = this.matrix.shape;
    const used = (i) => this.matrix.subarray(i * this.columns, (i + 1) * this.columns).filter((a) => a !== 0).length;
    this.byColumn = Array.from(this.offset, (_, i) => used(i)).every((count) => count <= 1);
  }

  /** A x + c: missing (NaN) where a column is that it depends on, and nowhere else. */
  apply(row) {
    return Float64Array.from(this.offset, (shift, i) => {
      let sum = 0;
      for (let j = 0; j < this.columns; j++) {
        const a = this.matrix[i * this.columns + j];
        if (a !== 0) sum += a * row[j]; // 0 NaN = NaN
      }
      return sum + shift;
    });
  }
}

const FACTORS = 16;

/** Products of (x_f - center_f) / step_f, one for each row of `index`, of the columns named there (-1: none). */
export class Monomials {
  static fields = ["center", "step", "index"];

  constructor(fields) {
    Object.assign(this, fields);
    insist(vector(this.center) && vector(this.step) && this.center.length === this.step.length &&
      this.index instanceof Float64Array && this.index.shape.length === 2 && counts(this.index.shape[1], 1, FACTORS) &&
      this.index.every((f) => counts(f, -1, this.center.length - 1)), DAMAGED);
    [this.rows, this.factors] = this.index.shape;
    this.columns = this.center.length;
  }

  apply(row) {
    const u = row.map((value, f) => (this.step[f] > 0 ? (value - this.center[f]) / this.step[f] : 0));
    return Float64Array.from({ length: this.rows }, (_, m) => {
      let out = 1;
      for (let k = 0; k < this.factors; k++) {
        const f = this.index[m * this.factors + k];
        out *= f < 0 ? 1 : u[f];
      }
      return out;
    });
  }
}

class Encoder {
  check(width, maps = [Affine]) {
    insist(this.before === null || (maps.some((map) => this.before instanceof map) && this.before.rows === width), DAMAGED);
    this.features = this.before === null ? width : this.before.columns;
    insist(counts(this.length, 1, MOST), DAMAGED);
  }

  /** The integers of one row of numbers. */
  encode(row) {
    insist(row.length === this.features, `expected ${this.features} columns, got ${row.length}`, DataError);
    const fine = (value) => typeof value === "number" && (Number.isFinite(value) || (this.missing && Number.isNaN(value)));
    const bad = Array.from(row).findIndex((value) => !fine(value));
    insist(bad < 0, `column ${bad} is missing or no number: encrypted prediction needs finite numbers`, DataError);
    const numbers = Float64Array.from(row);
    return this.integers(this.before === null ? numbers : this.before.apply(numbers));
  }
}

export class Quantizer extends Encoder {
  static fields = ["center", "step", "limit", "pairs", "before", "squares"];

  constructor(fields) {
    super();
    Object.assign(this, fields);
    insist(vector(this.center) && vector(this.step) && this.center.length === this.step.length &&
      counts(this.limit, 1, 2 ** 24) && typeof this.pairs === "boolean" && typeof this.squares === "boolean", DAMAGED);
    const d = this.center.length;
    this.length = this.pairs ? d + (d * (d + 1)) / 2 : d + d * this.squares;
    this.check(d, [Affine, Monomials]);
  }

  integers(row) {
    const d = row.length, out = new Float64Array(this.length);
    for (let i = 0; i < d; i++) {
      const z = this.step[i] > 0 ? rint((row[i] - this.center[i]) / this.step[i]) : 0;
      out[i] = Math.min(Math.max(z, -this.limit), this.limit) + 0;
    }
    let at = d;
    for (let i = 0; i < d && (this.squares || this.pairs); i++)
      for (let j = i; j < (this.squares ? i + 1 : d); j++) out[at++] = out[i] * out[j];
    return out;
  }
}

function inSingle(row) {
  const rounded = row.map(Math.fround);
  insist(rounded.every((value) => Math.abs(value) !== Infinity),
    "a number is too large for the single precision in which these trees compare", DataError);
  return rounded;
}

export class Thermometer extends Encoder {
  static fields = ["columns", "feature", "threshold", "single", "before"];
  static infinite = "threshold"; // of a node that tells missing values from all others

  constructor(fields) {
    super();
    Object.assign(this, fields);
    insist(counts(this.columns, 1, MOST) && vector(this.feature) && vector(this.threshold) &&
      this.feature.length === this.threshold.length && typeof this.single === "boolean", DAMAGED);
    this.length = Math.max(this.feature.length, 1);
    this.width = this.before instanceof Affine ? this.before.rows : this.columns;
    this.check(this.width);
    insist(this.features === this.columns && this.feature.every((f) => counts(f, 0, this.width - 1)), DAMAGED);
  }

  integers(row) {
    const seen = this.single ? inSingle(row) : row, out = new Float64Array(this.length);
    this.feature.forEach((f, i) => (out[i] = seen[f] > this.threshold[i] ? 1 : 0));
    return out;
  }
}

export class LeafEncoder extends Encoder {
  static fields = ["columns", "root", "feature", "threshold", "left", "right", "single", "before"];
  static infinite = "threshold"; // of a node that tells missing values from all others

  constructor(fields) {
    super();
    Object.assign(this, fields);
    const nodes = this.feature.length;
    insist(counts(this.columns, 1, MOST) && [this.root, this.feature, this.threshold, this.left, this.right].every(vector) &&
      [this.threshold, this.left, this.right].every((item) => item.length === nodes) &&
      typeof this.single === "boolean", DAMAGED);
    this.width = this.before instanceof Affine ? this.before.rows : this.columns;
    const leaves = new Set();
    for (let node = 0; node < nodes; node++) {
      const after = (child) => counts(child, node + 1, nodes - 1); // so that every walk ends
      if (this.feature[node] < 0) leaves.add(this.left[node]);
      else insist(this.feature[node] < this.width && after(this.left[node]) && after(this.right[node]),
        "the trees of this model file are damaged");
    }
    this.length = this.feature.filter((f) => f < 0).length;
    insist(leaves.size === this.length && [...leaves].every((leaf) => counts(leaf, 0, this.length - 1)) &&
      this.root.every((root) => counts(root, 0, nodes - 1)), "the trees of this model file are damaged");
    this.check(this.width);
    insist(this.features === this.columns, DAMAGED);
  }

  integers(row) {
    const seen = this.single ? inSingle(row) : row, out = new Float64Array(this.length);
    for (let node of this.root) {
      while (this.feature[node] >= 0)
        node = seen[this.feature[node]] <= this.threshold[node] ? this.left[node] : this.right[node];
      out[this.left[node]] = 1;
    }
    return out;
  }
}

const BELOW = 0, ABOVE = 1, CATEGORY = 2, CUT_CATEGORY = 3, MISSING = 4;

/** The bits of trees that know missing values (NaN) or categories. */
export class MixedBits extends Encoder {
  static fields = ["columns", "feature", "value", "asks", "single", "before"];
  static infinite = "value";

  constructor(fields) {
    super();
    Object.assign(this, fields);
    insist(counts(this.columns, 1, MOST) && vector(this.feature) && vector(this.value) && vector(this.asks) &&
      this.feature.length === this.value.length && this.feature.length === this.asks.length &&
      this.asks.every((kind) => counts(kind, BELOW, MISSING)) && typeof this.single === "boolean", DAMAGED);
    this.missing = this.before === null || this.before.byColumn;
    this.length = Math.max(this.feature.length, 1);
    this.width = this.before instanceof Affine ? this.before.rows : this.columns;
    this.check(this.width);
    insist(this.features === this.columns && this.feature.every((f) => counts(f, 0, this.width - 1)), DAMAGED);
  }

  integers(row) {
    const rounded = this.single ? inSingle(row) : row, out = new Float64Array(this.length);
    this.feature.forEach((f, i) => {
      const x = row[f], seen = rounded[f], v = this.value[i], none = Number.isNaN(x);
      const is = [seen > v, seen > v || none, x === v, Math.trunc(x) === v, none];
      out[i] = Number(is[this.asks[i]]);
    });
    return out;
  }
}

/** One bit for each leaf of trees that the client has and that know missing values or categories. */
export class MixedLeaves extends Encoder {
  static fields = ["bits", "root", "feature", "left", "right", "start", "test"];

  constructor(fields) {
    super();
    Object.assign(this, fields);
    insist(this.bits instanceof MixedBits && [this.root, this.feature, this.left, this.right, this.start, this.test]
      .every(vector), DAMAGED);
    const nodes = this.feature.length, inner = this.feature.map((f) => Math.min(f, 0));
    Object.assign(inner, { shape: [nodes] });
    const threshold = Object.assign(new Float64Array(nodes), { shape: [nodes] });
    this.walks = new LeafEncoder({ columns: this.bits.columns, root: this.root, feature: inner, threshold,
      left: this.left, right: this.right, single: false, before: null });
    insist(this.start.length === nodes + 1 && this.start[nodes] === this.test.length &&
      this.start.every((at, i) => counts(at, i > 0 ? this.start[i - 1] : 0, this.test.length)) &&
      this.test.every((bit) => counts(bit, 0, this.bits.length - 1)), "the trees of this model file are damaged");
    Object.assign(this, { before: null, missing: this.bits.missing, length: this.walks.length });
    this.check(this.bits.columns);
  }

  integers(row) {
    const z = this.bits.integers(this.bits.before === null ? row : this.bits.before.apply(row));
    const out = new Float64Array(this.length);
    for (let node of this.root) {
      while (this.feature[node] >= 0) {
        const asked = this.test.subarray(this.start[node], this.start[node + 1]);
        node = asked.some((bit) => z[bit] === 1) ? this.right[node] : this.left[node];
      }
      out[this.left[node]] = 1;
    }
    return out;
  }
}

/** A row as numbers in the model's order: an array as it is, an object by the names of its columns. */
export function ordered(row, names) {
  if (Array.isArray(row) || ArrayBuffer.isView(row)) return row;
  insist(row !== null && typeof row === "object", "a row is an array of numbers, or an object of names and numbers", DataError);
  insist(names.length > 0, "this model knows no names of columns: give each row as an array of numbers", DataError);
  const missing = names.filter((name) => !Object.hasOwn(row, name));
  const unknown = Object.keys(row).filter((name) => !names.includes(name));
  insist(missing.length + unknown.length === 0, "the columns are not those that the model was trained on " +
    `(missing: ${missing.slice(0, 5).join(", ") || "none"}; unknown: ${unknown.slice(0, 5).join(", ") || "none"})`, DataError);
  return names.map((name) => row[name]);
}

