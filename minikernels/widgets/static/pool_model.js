// The bookkeeping of widgets/pool_model.py, rule by rule; a browser test holds the two together.

const pagesOf = (count) => counted(count, "page");
const tokensOf = (count) => counted(count, "token");

class Pool {
  constructor(pages, P) {
    this.P = P;
    this.unused = Array.from({ length: pages }, (_, page) => pages - 1 - page);
    this.references = new Array(pages).fill(0);
    this.filled = new Array(pages).fill(0);
    this.held = new Map();
    this.lengths = new Map();
    this.next = 0;
  }

  /** Do what an event asks and say what happened; too few pages change nothing. */
  apply([name, ...numbers]) {
    return this[name](...numbers);
  }

  allocate(tokens, like, same = 0) {
    const shared = like === undefined ? [] : this.held.get(like).slice(0, Math.floor(same / this.P));
    const needed = Math.ceil(tokens / this.P) - shared.length;
    if (needed > this.unused.length) return this.refused(needed, `a request of ${tokensOf(tokens)} needs`);
    const sequence = this.next++;
    this.held.set(sequence, [...shared]);
    this.lengths.set(sequence, shared.length * this.P);
    for (const page of shared) this.references[page]++;
    this.grow(sequence, tokens - shared.length * this.P);
    const more = shared.length ? `, ${pagesOf(shared.length)} shared with sequence ${like}` : "";
    return `sequence ${sequence} begins with ${tokensOf(tokens)} in ${pagesOf(this.held.get(sequence).length)}${more}`;
  }

  append(sequence, tokens) {
    const pages = this.held.get(sequence);
    const room = (this.P - (this.lengths.get(sequence) % this.P)) % this.P;
    const copied = Math.min(room, tokens) > 0 && this.references[pages.at(-1)] > 1 ? 1 : 0;
    const needed = copied + Math.ceil(Math.max(0, tokens - room) / this.P);
    if (needed > this.unused.length) {
      return this.refused(needed, `to append ${tokensOf(tokens)} to sequence ${sequence} takes`);
    }
    let more = "";
    if (copied) { // copy on write
      const shared = pages.pop();
      pages.push(this.page());
      this.filled[pages.at(-1)] = this.filled[shared];
      this.release(shared);
      more = `; page ${shared} was shared, so it is copied to page ${pages.at(-1)}`;
    }
    this.grow(sequence, tokens);
    return `sequence ${sequence} appends ${tokensOf(tokens)}, ${pagesOf(needed)} taken${more}`;
  }

  fork(sequence) {
    const copy = this.next++;
    this.held.set(copy, [...this.held.get(sequence)]);
    this.lengths.set(copy, this.lengths.get(sequence));
    for (const page of this.held.get(copy)) this.references[page]++;
    return `sequence ${copy} is a fork of ${sequence}: ${pagesOf(this.held.get(copy).length)} shared, nothing copied`;
  }

  free(sequence) {
    const before = this.unused.length;
    for (const page of this.held.get(sequence).reverse()) this.release(page);
    this.held.delete(sequence);
    this.lengths.delete(sequence);
    return `sequence ${sequence} is freed: ${pagesOf(this.unused.length - before)} given back`;
  }

  grow(sequence, tokens) {
    const pages = this.held.get(sequence);
    while (tokens > 0) {
      const slot = this.lengths.get(sequence) % this.P;
      if (!slot) pages.push(this.page());
      const taken = Math.min(tokens, this.P - slot);
      this.filled[pages.at(-1)] = slot + taken;
      this.lengths.set(sequence, this.lengths.get(sequence) + taken);
      tokens -= taken;
    }
  }

  page() {
    const page = this.unused.pop();
    this.references[page] = 1;
    return page;
  }

  release(page) {
    this.references[page]--;
    if (this.references[page]) return;
    this.filled[page] = 0;
    this.unused.push(page);
  }

  refused(needed, what) {
    return `out of pages: ${what} ${pagesOf(needed)}, and ${this.unused.length} are free; nothing has changed`;
  }
}
