import asyncio


async def fetch(name, delay):
    await asyncio.sleep(delay)
    return name


async def main():
    print(await asyncio.gather(fetch("slow", 0.02), fetch("fast", 0.0)))
    try:
        await asyncio.wait_for(fetch("never", 60), 0.01)
    except asyncio.TimeoutError:
        print("timed out")


asyncio.run(main())
