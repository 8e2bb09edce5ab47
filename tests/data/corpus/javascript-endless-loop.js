console.log('spinning');
for (;;) {}
