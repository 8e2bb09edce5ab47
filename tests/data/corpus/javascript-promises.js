const order = [];
process.nextTick(() => order.push('tick'));
Promise.resolve().then(() => order.push('micro 1')).then(() => order.push('micro 2'));
const flow = (async () => {
  order.push('async start');
  await null;
  order.push('async end');
})();
order.push('sync');
const later = (ms, value) => new Promise((resolve) => setTimeout(resolve, ms, value));
(async () => {
  const all = await Promise.allSettled([1, flow, Promise.reject(new Error('no')), later(2, 'late')]);
  console.log(order.join(', '));
  console.log(all.map((one) => one.status + ':' + (one.value ?? one.reason?.message)).join(', '));
  console.log(await Promise.race([later(10000, 'slow'), later(1, 'quick')]));
  process.exit(0);
})();
