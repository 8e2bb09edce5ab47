process.stdout.write(Buffer.from(Array.from({ length: 512 }, (_, i) => i & 255)));
