const { area } = require('./lib/geometry.js');
const points = JSON.parse(require('fs').readFileSync('points.json', 'utf8'));
console.log(area(points), points.length);
