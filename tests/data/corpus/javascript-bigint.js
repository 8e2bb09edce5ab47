let factorial = 1n;
for (let n = 1n; n <= 60n; n++) factorial *= n;
console.log(factorial.toString());
console.log(2n ** 200n, (-7n) / 2n, BigInt.asUintN(8, 300n), 10n > 9);
console.log(Number.MAX_SAFE_INTEGER + 2, 0.1 + 0.2, 9007199254740993n);
try { console.log(1n + 1); } catch (error) { console.log(error.name); }
