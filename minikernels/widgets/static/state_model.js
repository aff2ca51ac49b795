// The recurrence S = factor S + k v^T, run to any token, in either direction.

const EVERY = 32; // tokens from one kept state to the next

class StateModel {
  constructor({ T, D, gated }, arrays) {
    Object.assign(this, { T, D, gated, ...arrays });
    this.setDecay(1);
  }

  /** Run through all tokens with this decay: keeps the norm after each, and some of the states. */
  setDecay(decay) {
    if (decay === this.decay) return;
    this.decay = decay;
    this.kept = [];
    this.norms = new Float64Array(this.T);
    const state = new Float64Array(this.D * this.D);
    for (let t = 0; t < this.T; t++) {
      if (t % EVERY === 0) this.kept.push(state.slice());
      this.take(state, t);
      let sum = 0;
      for (const x of state) sum += x * x;
      this.norms[t] = Math.sqrt(sum);
    }
  }

  factor(t, row) {
    return this.gated ? Math.exp(this.gate[t * this.D + row]) : this.decay;
  }

  take(state, t) {
    const { D, k, v } = this;
    for (let row = 0; row < D; row++) {
      const [factor, key] = [this.factor(t, row), k[t * D + row]];
      for (let column = 0; column < D; column++) {
        state[row * D + column] = factor * state[row * D + column] + key * v[t * D + column];
      }
    }
  }

  /** The state after token t. */
  at(t) {
    const from = Math.floor(t / EVERY);
    const state = this.kept[from].slice();
    for (let token = from * EVERY; token <= t; token++) this.take(state, token);
    return state;
  }

  /** What is left of each token up to t: the product of the factors since, mean over the rows. */
  memory(t) {
    const left = new Float64Array(t + 1);
    const since = new Float64Array(this.D).fill(1);
    for (let token = t; token >= 0; token--) {
      left[token] = since.reduce((sum, x) => sum + x, 0) / this.D;
      for (let row = 0; row < this.D; row++) since[row] *= this.factor(token, row);
    }
    return left;
  }

  /** o = q S of token t. */
  output(t, state) {
    const { D, q } = this;
    const o = new Float64Array(D);
    for (let row = 0; row < D; row++) for (let c = 0; c < D; c++) o[c] += q[t * D + row] * state[row * D + c];
    return o;
  }
}
