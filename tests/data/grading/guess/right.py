low, high = 0, 1000
answer = ""
while answer != "yes":
    guess = (low + high) // 2
    print(guess, flush=True)
    answer = input()
    if answer == "low":
        low = guess + 1
    else:
        high = guess - 1
