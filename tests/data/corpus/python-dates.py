from datetime import date, datetime, timedelta, timezone

start = date(2024, 2, 28)
print([(start + timedelta(days=n)).isoformat() for n in range(3)])
print((date(2025, 12, 24) - start).days, date(2026, 1, 1).isocalendar())
moment = datetime(2024, 3, 31, 0, 59, 59, tzinfo=timezone.utc)
print((moment + timedelta(seconds=1)).astimezone(timezone(timedelta(hours=5, minutes=45))))
print(datetime.strptime("29 Feb 2000 23:05", "%d %b %Y %H:%M").strftime("%A %j"))
print(datetime.fromtimestamp(1_000_000_000, timezone.utc).isoformat())
