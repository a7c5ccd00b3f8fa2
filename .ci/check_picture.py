"""Checks that a PNG is a picture: large enough, and with many colours, among them reds and blues."""

import struct
import sys
import zlib


def pixels(path):
    data = open(path, "rb").read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "not a PNG"
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    channels = {2: 3, 6: 4}[colour]
    assert depth == 8, "not 8 bits per channel"
    raw, stride = zlib.decompress(packed), width * channels
    rows, previous = [], bytearray(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for x in range(stride):
            left = line[x - channels] if x >= channels else 0
            up, corner = previous[x], previous[x - channels] if x >= channels else 0
            guess = left + up - corner
            nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            line[x] = (line[x] + (0, left, up, (left + up) // 2, nearest)[kind]) & 255
        rows.append(line)
        previous = line
    return width, height, [tuple(row[x : x + 3]) for row in rows for x in range(0, stride, channels)]


width, height, found = pixels(sys.argv[1])
colours = set(found)
red = sum(r > b + 60 for r, g, b in found)
blue = sum(b > r + 60 for r, g, b in found)
assert width >= 200 and height >= 100, f"only {width}x{height}"
assert len(colours) > 50 and red > 100 and blue > 100, f"{len(colours)} colours, {red} red and {blue} blue pixels"
print(f"{width}x{height}, {len(colours)} colours, {red} red and {blue} blue pixels")
