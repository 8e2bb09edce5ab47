import os

read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    os.close(read_end)
    os.write(write_end, b"hello from the child\n")
    os._exit(7)
os.close(write_end)
with os.fdopen(read_end) as pipe:
    print(pipe.read(), end="")
_, status = os.waitpid(child, 0)
print("child ended with", os.waitstatus_to_exitcode(status))
