process.stdout.write('x'.repeat(100));
process.stderr.write('.' + 'é'.repeat(40000));
