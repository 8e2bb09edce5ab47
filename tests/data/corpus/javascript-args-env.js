process.argv.slice(2).forEach((argument, index) => console.log(index + 1, JSON.stringify(argument)));
console.log(process.env.GREETING, process.env.EMPTY === '', process.env.MISSING);
