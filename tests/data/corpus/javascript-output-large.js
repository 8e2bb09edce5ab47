for (let n = 0; n < 20000; n++) console.log(String(n).padStart(40, '.'));
