import unicodedata

samples = ["naïve", "Straße", "Ελλάδα", "日本語", "שלום", "👩‍👩‍👧", "e\u0301"]
for text in samples:
    composed = unicodedata.normalize("NFC", text)
    print(text, len(text), len(text.encode()), composed.upper(), composed.casefold())
print(unicodedata.name("€"), "\N{SNOWMAN}", "\U0001f600")
