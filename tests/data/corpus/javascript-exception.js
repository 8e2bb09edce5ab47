console.log('before');
const settings = undefined;
function port() { return settings.port; }
port();
