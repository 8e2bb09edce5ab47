local total = 0
for number in io.read("a"):gmatch("%S+") do
    total = total + tonumber(number)
end
print(total)
