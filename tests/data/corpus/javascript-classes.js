class Shape {
  #name;
  static count = 0;
  constructor(name) { this.#name = name; Shape.count += 1; }
  get label() { return `${this.#name}:${this.area().toFixed(2)}`; }
}
class Circle extends Shape {
  constructor(r) { super('circle'); this.r = r; }
  area() { return Math.PI * this.r ** 2; }
}
class Rect extends Shape {
  constructor(w, h) { super('rect'); Object.assign(this, { w, h }); }
  area() { return this.w * this.h; }
}
console.log([new Circle(1), new Rect(2, 3)].map((s) => s.label), Shape.count);
try { new Shape('bare').label; } catch (e) { console.log(e.constructor.name, e.message); }
