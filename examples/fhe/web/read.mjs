// From decrypted integers to predictions: read.py, operation by operation. Only exp and exp2 are the browser's own.

import { TacitError, counts, insist } from "./bytes.mjs";

const DAMAGED = "this model file is damaged: a field is missing or of the wrong kind";
const FORGED = "the answer does not name one leaf for each tree: it was forged or damaged";

const ROUNDING = 1e-9; // read.py
const mod = (value, t) => ((value % t) + t) % t;
const centred = (value, t) => (value > Math.floor(t / 2) ? value - t : value);
const sigmoid = (x) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));

/** The sum in NumPy's order (eight sums side by side, halves of what is longer), so that it rounds alike. */
export function total(values, from = 0, count = values.length) {
  if (count > 128) {
    const half = Math.floor(count / 2) - (Math.floor(count / 2) % 8);
    return total(values, from, half) + total(values, from + half, count - half);
  }
  if (count < 8) {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += values[from + i];
    return sum;
  }
  const r = Array.from(values.slice(from, from + 8));
  let i = 8;
  for (; i < count - (count % 8); i += 8) for (let j = 0; j < 8; j++) r[j] += values[from + i + j];
  let sum = r[0] + r[1] + (r[2] + r[3]) + (r[4] + r[5] + (r[6] + r[7]));
  for (; i < count; i++) sum += values[from + i];
  return sum;
}

export function largest(values) {
  let best = 0;
  values.forEach((value, i) => (best = value > values[best] ? i : best));
  return best;
}

function softmax(scores) {
  const top = Math.max(...scores), powers = scores.map((score) => Math.exp(score - top)), sum = total(powers);
  return powers.map((power) => power / sum);
}

export class PlainReader {
  static fields = [];

  constructor() {}

  read(outputs) {
    return outputs;
  }
}

export class ForestReader {
  static fields = ["leaves", "trees", "values"];

  constructor(fields) {
    Object.assign(this, fields);
    insist([this.leaves, this.trees].every((list) => Array.isArray(list) && list.every((n) => counts(n, 0, 2 ** 24))) &&
      this.leaves.length === this.trees.length && counts(this.values, 1, 2 ** 16), DAMAGED);
  }

  read(outputs, moduli) {
    const width = 1 + this.values, t = moduli[moduli.length - 1], sums = [];
    const parts = moduli.length === 1 ? outputs : outputs.flatMap((value) => moduli.map((m) => mod(value, m)));
    insist(parts.length === width * this.leaves.reduce((a, b) => a + b, 0), DAMAGED);
    let leaf = 0;
    this.leaves.forEach((leaves, channel) => {
      const sum = new Array(this.values).fill(0);
      let reached = 0;
      for (const end = leaf + leaves; leaf < end; leaf++) {
        if (parts[leaf * width] !== 0) continue;
        reached++;
        for (let v = 0; v < this.values; v++) sum[v] += parts[leaf * width + 1 + v];
      }
      insist(reached === this.trees[channel], FORGED);
      sums.push(...sum.map((value) => centred(mod(value, t), t)));
    });
    return sums;
  }
}

export class VoteReader {
  static fields = ["leaves", "trees", "labels"];

  constructor(fields) {
    Object.assign(this, fields);
    insist(VoteReader.fields.every((name) => counts(this[name], 1, 2 ** 24)), DAMAGED);
  }

  read(outputs, moduli) {
    insist(outputs.length * moduli.length >= 2 * this.leaves, DAMAGED);
    const part = (i) => mod(outputs[Math.floor(i / moduli.length)], moduli[i % moduli.length]);
    const votes = new Array(this.labels).fill(0);
    let reached = 0;
    for (let leaf = 0; leaf < this.leaves; leaf++) {
      if (part(2 * leaf) !== 0) continue;
      const label = part(2 * leaf + 1);
      insist(label < this.labels, FORGED);
      votes[label]++;
      reached++;
    }
    insist(reached === this.trees, FORGED);
    return votes.slice(0, Math.max(this.labels - 1, 1));
  }
}

export class NeighborReader {
  static fields = [];

  constructor() {}

  read(outputs) {
    const pairs = Array.from({ length: outputs.length / 2 }, (_, i) => [outputs[2 * i], outputs[2 * i + 1]]);
    return pairs.sort((a, b) => a[0] - b[0] || a[1] - b[1]).flat();
  }
}

const list = (item) => item instanceof Float64Array && item.length > 0;

/** What scikit-learn does with scores. `scale` and `shift` make them of the integers. */
export class Head {
  constructor(fields) {
    Object.assign(this, fields);
    insist(!("scale" in fields) || (list(this.scale) && list(this.shift)), DAMAGED);
    insist(!("classes" in fields) || Array.isArray(this.classes?.values), DAMAGED);
  }

  affine(values) {
    const wide = (item) => item.length === 1 || item.length === values.length;
    insist(wide(this.scale) && wide(this.shift), DAMAGED);
    return values.map((value, i) => value * this.scale[i % this.scale.length] + this.shift[i % this.shift.length]);
  }

  picked(which) {
    insist(which < this.classes.values.length, DAMAGED);
    return this.classes.values[which];
  }

  probabilities() {
    throw new TacitError("this model has no probabilities");
  }
}

export class RegressionHead extends Head {
  static fields = ["scale", "shift", "exponential", "flat"];

  constructor(fields) {
    super(fields);
    insist(typeof this.exponential === "boolean" && typeof this.flat === "boolean", DAMAGED);
  }

  scores(values) {
    const out = this.affine(values);
    return this.flat ? out[0] : out;
  }

  predict(values) {
    const out = this.scores(values);
    if (!this.exponential) return out;
    return this.flat ? Math.exp(out) : out.map(Math.exp);
  }
}

const PROBA = ["logistic", "softmax", "samme", "one-vs-rest", "modified-huber", "exponential", "fractions", "none"];

const normalised = (chances) => {
  const sum = total(chances);
  return chances.map((value) => (sum > 0 ? value / sum : 1 / chances.length));
};

export class ClassificationHead extends Head {
  static fields = ["scale", "shift", "classes", "proba"];

  constructor(fields) {
    super(fields);
    insist(PROBA.includes(this.proba), DAMAGED);
  }

  scores(values) {
    const out = this.affine(values);
    if (this.proba === "fractions") return [...out, 1 - total(out)];
    return out.length === 1 ? out[0] : out;
  }

  predict(values) {
    const scores = this.scores(values);
    if (this.proba === "fractions") scores[scores.length - 1] -= ROUNDING; // the last class wins no tie
    return this.picked(Array.isArray(scores) ? largest(scores) : Number(scores > 0));
  }

  probabilities(values) {
    const scores = this.scores(values), single = !Array.isArray(scores);
    if (this.proba === "fractions") return scores;
    if (this.proba === "softmax") return softmax(single ? [-scores, scores] : scores);
    if (this.proba === "samme") return softmax(scores.map((score) => score / (scores.length - 1)));
    if (this.proba === "none") return super.probabilities();
    const huber = this.proba === "modified-huber", factor = this.proba === "exponential" ? 2 : 1;
    const one = [scores].flat().map((s) => (huber ? (Math.min(Math.max(s, -1), 1) + 1) / 2 : sigmoid(s * factor)));
    return single ? [1 - one[0], one[0]] : normalised(one);
  }
}

export class IsolationHead extends Head {
  static fields = ["scale", "shift", "unit", "offset"];

  constructor(fields) {
    super(fields);
    insist(Number.isFinite(this.unit) && Number.isFinite(this.offset), DAMAGED);
  }

  scores(values) {
    return -(2 ** (-this.affine(values)[0] / this.unit)) - this.offset;
  }

  predict(values) {
    return this.scores(values) < 0 ? -1 : 1;
  }
}

export class NeighborHead extends Head {
  static fields = ["k", "by_distance", "classes", "scale", "shift"];

  constructor({ scale, shift, ...fields }) {
    super(fields);
    Object.assign(this, { scale, shift }); // two numbers
    insist(counts(this.k, 1, 2 ** 24) && typeof this.by_distance === "boolean" && Number.isFinite(scale) &&
      Number.isFinite(shift), DAMAGED);
  }

  scores(values, z) {
    const square = z.reduce((sum, value) => sum + value * value, 0), k = Math.min(this.k, values.length / 2);
    const distance = Array.from({ length: k }, (_, i) => values[2 * i] + square);
    const label = Array.from({ length: k }, (_, i) => values[2 * i + 1]), exact = distance.includes(0);
    const weight = distance.map((d) => (!this.by_distance ? 1 : exact ? Number(d === 0) : 1 / Math.sqrt(Math.max(d, 1))));
    const sum = total(weight);
    if (this.classes.values.length === 0)
      return (total(weight.map((w, i) => w * label[i])) / sum) * this.scale + this.shift;
    return this.classes.values.map((_, c) => total(weight.map((w, i) => w * Number(label[i] === c))) / sum);
  }

  predict(values, z) {
    const scores = this.scores(values, z);
    return Array.isArray(scores) ? this.picked(largest(scores)) : scores;
  }

  probabilities(values, z) {
    return this.classes.values.length > 0 ? this.scores(values, z) : super.probabilities();
  }
}

/** A score for each pair of classes i < j; times `sign` it speaks for j. */
export class PairHead extends Head {
  static fields = ["scale", "shift", "classes", "sign", "by_confidence", "pairs"];

  constructor(fields) {
    super(fields);
    insist([1, -1].includes(this.sign) && typeof this.by_confidence === "boolean" && typeof this.pairs === "boolean",
      DAMAGED);
  }

  #counted(values) {
    const k = this.classes.values.length, votes = new Array(k).fill(0), sums = new Array(k).fill(0);
    const says = this.affine(values).map((score) => this.sign * score);
    insist(says.length === (k * (k - 1)) / 2, DAMAGED);
    for (let i = 0, at = 0; i < k; i++)
      for (let j = i + 1; j < k; j++, at++) {
        votes[(this.sign > 0 ? says[at] > 0 : says[at] >= 0) ? j : i] += 1;
        sums[i] -= says[at];
        sums[j] += says[at];
      }
    return [votes, votes.map((vote, c) => vote + sums[c] / (3 * (Math.abs(sums[c]) + 1)))];
  }

  scores(values) {
    if (this.pairs) return this.affine(values);
    const scores = this.#counted(values)[1];
    return scores.length === 2 ? scores[1] : scores;
  }

  predict(values) {
    return this.picked(largest(this.#counted(values)[Number(this.by_confidence)]));
  }
}

/** Classifiers with heads of their own, `sizes` scores each, of which one is made. */
class Members extends Head {
  constructor(fields) {
    super(fields);
    const known = Array.isArray(this.heads) && this.heads.length > 0 && this.heads.every((head) => head instanceof Head);
    insist(known && Array.isArray(this.sizes) && this.sizes.length === this.heads.length &&
      this.sizes.every((size) => counts(size, 1, 2 ** 24)), DAMAGED);
  }

  /** What each member says of its scores. */
  parts(values, say) {
    let at = 0;
    const parts = this.heads.map((head, m) => say(head, values.slice(at, (at += this.sizes[m])), m));
    insist(at === values.length, DAMAGED);
    return parts;
  }

  predict(values, z) {
    return this.picked(largest(this.scores(values, z)));
  }

  /** Sums over the members, class by class, in their order. */
  added(parts) {
    const width = this.classes.values.length;
    insist(parts.every((part) => part.length === width), DAMAGED);
    return Array.from({ length: width }, (_, c) => parts.reduce((sum, part) => sum + part[c], 0));
  }
}

export class VotingHead extends Members {
  static fields = ["heads", "sizes", "weights", "classes", "soft"];

  constructor(fields) {
    super(fields);
    insist(list(this.weights) && this.weights.length === this.heads.length && typeof this.soft === "boolean", DAMAGED);
  }

  scores(values, z) {
    const all = this.weights.reduce((sum, weight) => sum + weight, 0);
    const said = this.parts(values, (head, part, m) => {
      if (this.soft) return head.probabilities(part, z).map((chance) => this.weights[m] * chance);
      const label = head.predict(part, z);
      return this.classes.values.map((_, c) => this.weights[m] * Number(label === c));
    });
    return this.added(said).map((sum) => (this.soft ? sum / all : sum));
  }

  probabilities(values, z) {
    return this.soft ? this.scores(values, z) : super.probabilities();
  }
}

/** Members whose scores go through sigmoids, 1 / (1 + exp(a score + b)), normalised, and averaged. */
export class CalibratedHead extends Members {
  static fields = ["heads", "sizes", "slope", "offset", "classes"];

  constructor(fields) {
    super(fields);
    const fits = (item) => list(item) && item.shape.length === 2 && item.shape[0] === this.heads.length;
    insist(fits(this.slope) && fits(this.offset) && this.slope.length === this.offset.length, DAMAGED);
  }

  scores(values, z) {
    const width = this.slope.shape[1];
    const said = this.parts(values, (head, part, m) => {
      const scores = [head.scores(part, z)].flat();
      insist(scores.length === width, DAMAGED);
      const one = scores.map((s, i) => sigmoid(-(this.slope[m * width + i] * s + this.offset[m * width + i])));
      return width === 1 ? [1 - one[0], one[0]] : normalised(one);
    });
    return this.added(said).map((sum) => sum / this.heads.length);
  }

  probabilities(values, z) {
    return this.scores(values, z);
  }
}

export const HEADS = {
  ClassificationHead, RegressionHead, NeighborHead, IsolationHead, PairHead, VotingHead, CalibratedHead,
};
