print("started")
io.flush()
local kept = {}
while true do
    kept[#kept + 1] = string.rep(tostring(#kept), 1 << 18)
end
