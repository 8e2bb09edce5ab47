process.on('exit', (code) => console.log('leaving with', code));
process.stderr.write('giving up\n');
process.exit(3);
