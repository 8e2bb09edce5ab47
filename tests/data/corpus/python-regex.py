import re

LOG = """\
127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /index.html HTTP/1.0" 200 2326
10.0.0.7 - alice [10/Oct/2000:13:55:40 -0700] "POST /api?q=a%20b HTTP/1.1" 503 -
broken line
::1 - - [11/Oct/2000:00:00:01 +0000] "DELETE /x HTTP/1.1" 204 0
"""
LINE = re.compile(
    r'(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<when>[^\]]+)\] '
    r'"(?P<verb>[A-Z]+) (?P<path>\S+) [^"]*" (?P<status>\d{3}) (?P<size>\d+|-)$'
)
for line in LOG.splitlines():
    match = LINE.match(line)
    print(match.groupdict() if match else f"no match: {line!r}")
print(re.sub(r"(\d+)-(\d+)", r"\2-\1", "1-2 30-40"), re.split(r"[;,]\s*", "a;b, c"))
