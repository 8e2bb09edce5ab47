print("never printed")
if True
    print("colon missing")
