// The index language of widgets/expression.py, rule by rule; a browser test holds the two together.

const LONGEST = 200;
const LARGEST = 2 ** 31 - 1;
const TOKEN = /\s*(?:(0[xX][0-9a-fA-F]+|[0-9]+)|([A-Za-z_][A-Za-z_0-9]*)|(\/\/|<<|>>|[-+*/%&|^~(),])|(\S))/gy;
const LEVELS = [["|"], ["^"], ["&"], ["<<", ">>"], ["+", "-"], ["*", "//", "%"]];

class ExpressionError extends Error {}

/** The expression's value for each lane; throws an ExpressionError that says what is wrong and where. */
function evaluate(text, names, lanes = 32) {
  const tree = new Reader(text, [...Object.keys(names), "lane"]).whole();
  return Array.from({ length: lanes }, (_, lane) => {
    try {
      return valueOf(tree, { ...names, lane });
    } catch (error) {
      if (error instanceof ExpressionError) error.message = `lane ${lane}: ${error.message}`;
      throw error;
    }
  });
}

/** Recursive descent over the tokens; a tree is a number, a name or [operator, tree, tree]. */
class Reader {
  constructor(text, names) {
    if (text.length > LONGEST) throw new ExpressionError(`an expression has at most ${LONGEST} characters`);
    this.tokens = [...text.matchAll(TOKEN)].map((match) => {
      const kind = [1, 2, 3, 4].find((i) => match[i] !== undefined);
      return [kind, match[kind], match.index + match[0].length - match[kind].length];
    });
    this.tokens.push([0, "the end", text.length]);
    this.names = names;
    this.at = 0;
  }

  whole() {
    const tree = this.level(0);
    const [kind, token, place] = this.tokens[this.at];
    if (token === "/") {
      throw new ExpressionError(`/ gives fractions (character ${place + 1}); write // for a whole number`);
    }
    if (kind) throw new ExpressionError(`did not expect ${token} (character ${place + 1})`);
    return tree;
  }

  level(number) {
    if (number === LEVELS.length) return this.sign();
    let tree = this.level(number + 1);
    while (this.tokens[this.at][0] === 3 && LEVELS[number].includes(this.tokens[this.at][1])) {
      const operator = this.take();
      tree = [operator, tree, this.level(number + 1)];
    }
    return tree;
  }

  sign() {
    if (["-", "+", "~"].includes(this.tokens[this.at][1])) return [`1${this.take()}`, this.sign(), 0];
    return this.atom();
  }

  atom() {
    const [kind, token, place] = this.tokens[this.at];
    if (kind === 1) {
      this.at++;
      return Number(token);
    }
    if (kind === 2 && (token === "min" || token === "max")) {
      this.at++;
      this.expect("(");
      const first = this.level(0);
      this.expect(",");
      const tree = [token, first, this.level(0)];
      this.expect(")");
      return tree;
    }
    if (kind === 2) {
      if (!this.names.includes(token)) {
        throw new ExpressionError(`unknown name ${token} (character ${place + 1}); known: ${this.names.join(", ")}`);
      }
      this.at++;
      return token;
    }
    if (token === "(") {
      this.at++;
      const tree = this.level(0);
      this.expect(")");
      return tree;
    }
    throw new ExpressionError(`expected a number or a name and found ${token} (character ${place + 1})`);
  }

  take() {
    return this.tokens[this.at++][1];
  }

  expect(token) {
    const [, found, place] = this.tokens[this.at];
    if (found !== token) throw new ExpressionError(`expected ${token} and found ${found} (character ${place + 1})`);
    this.at++;
  }
}

/** A tree's value for one lane. */
function valueOf(tree, names) {
  if (typeof tree === "string") return small(names[tree]);
  if (typeof tree === "number") return small(tree);
  const [operator, left, right] = tree;
  const [a, b] = [valueOf(left, names), valueOf(right, names)];
  if ((operator === "//" || operator === "%") && b === 0) throw new ExpressionError(`${operator} by zero`);
  if ((operator === "<<" || operator === ">>") && (b < 0 || b > 31)) {
    throw new ExpressionError(`${operator} by ${b}; 0 to 31 is possible`);
  }
  return small(OPERATORS[operator](a, b));
}

/** The value if it fits in 31 bits and a sign (a zero has no sign). */
function small(value) {
  if (Math.abs(value) > LARGEST) throw new ExpressionError("a value does not fit in 31 bits");
  return value + 0;
}

const OPERATORS = {
  "|": (a, b) => a | b, "^": (a, b) => a ^ b, "&": (a, b) => a & b,
  "<<": (a, b) => a * 2 ** b, ">>": (a, b) => a >> b,
  "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b,
  "//": (a, b) => Math.floor(a / b), "%": (a, b) => a - b * Math.floor(a / b), min: Math.min, max: Math.max,
  "1-": (a) => -a, "1+": (a) => a, "1~": (a) => ~a,
};
