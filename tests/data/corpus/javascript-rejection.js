console.log('waiting');
Promise.reject(new RangeError('nobody catches this'));
