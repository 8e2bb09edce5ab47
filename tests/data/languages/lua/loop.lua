print("started")
io.flush()
while true do end
