data = bytearray(b"\x01") * 60_000_000
print(len(data), data[0] + data[-1])
