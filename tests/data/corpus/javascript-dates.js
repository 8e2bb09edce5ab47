const day = new Date(Date.UTC(2024, 1, 28));
for (let n = 0; n < 3; n++) {
  console.log(day.toISOString().slice(0, 10), day.getUTCDay());
  day.setUTCDate(day.getUTCDate() + 1);
}
console.log((Date.UTC(2025, 11, 24) - Date.UTC(2024, 1, 28)) / 864e5, Date.parse('1970-01-02T00:00:00+01:00'), String(new Date('x')));
