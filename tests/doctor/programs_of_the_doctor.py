"""Programs that hang, and programs that only wait: real ones, to be looked at from outside.

Each prints a line when it is set up; what it started it leaves to whoever kills its process group.
"""

from __future__ import annotations

DEADLOCKS = {
    "a parent reads stdout while its child fills stderr": """
child = Popen([sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20); print('done')"],
              stdout=PIPE, stderr=PIPE)
ready()
child.stdout.read()
""",
    "a parent waits for a child that fills stdout": """
child = Popen([sys.executable, "-c", "print('x' * 2**20)"], stdout=PIPE)
ready()
child.wait()
""",
    "both write first and read later": """
child = Popen([sys.executable, "-c",
    "import sys; sys.stdout.write('x' * 2**20); sys.stdout.flush(); sys.stdin.read()"],
    stdin=PIPE, stdout=PIPE)
ready()
child.stdin.write(b"x" * 2**20)
""",
    "a ring of three": """
before, after = ring()
os.write(after, b"x" * 2**20)
os.read(before, 1)
""",
    "a ring of three that all read": """
before, after = ring()
os.read(before, 1)
os.write(after, b"x")
""",
    "a threaded parent": """
child = Popen([sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20); print('done')"],
              stdout=PIPE, stderr=PIPE)
reader = Thread(target=child.stdout.read)
reader.start()
ready()
reader.join()
""",
    "a pool of threads, each with such a child": """
from concurrent.futures import ThreadPoolExecutor
def work(_):
    child = Popen([sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20)"],
                  stdout=PIPE, stderr=PIPE)
    return child.stdout.read()
with ThreadPoolExecutor(3) as pool:
    ready()
    list(pool.map(work, range(5)))
""",
    "an event loop that does not read": """
import asyncio
async def main():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print('x' * 2**20)", stdout=PIPE)
    ready()
    await child.wait()
asyncio.run(main())
""",
    "an event loop that reads the other pipe": """
import asyncio
async def main():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20); print('done')",
        stdout=PIPE, stderr=PIPE)
    ready()
    await child.stdout.read()
asyncio.run(main())
""",
    "trio does not read": """
import subprocess, trio
async def main():
    child = await trio.lowlevel.open_process(
        [sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20); print('done')"],
        stdout=PIPE, stderr=PIPE)
    ready()
    await child.stdout.receive_some()
trio.run(main)
""",
    "a server whose stderr nobody drains": """
import json
server = '''
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    sys.stderr.write("debug: " + "x" * 100_000 + chr(10))
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {}}), flush=True)
'''
child = Popen([sys.executable, "-u", "-c", server], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
ready()
for number in range(50):
    request = {"jsonrpc": "2.0", "id": number, "method": "tools/call"}
    child.stdin.write(json.dumps(request) + chr(10))
    child.stdin.flush()
    child.stdout.readline()
""",
    "both ends in one process": """
_, writer = os.pipe()
ready()
os.write(writer, b"x" * 2**20)
""",
    "it waits for the end of what it could write itself": """
reader, _ = os.pipe()
ready()
os.read(reader, 1)
""",
    "two threads of one process write to one another": """
first, second = os.pipe(), os.pipe()
def swap(out, back):
    os.write(out[1], b"x" * 2**20)
    os.read(back[0], 2**20)
threads = [Thread(target=swap, args=each) for each in ((first, second), (second, first))]
for each in threads:
    each.start()
ready()
threads[0].join()
""",
    "a socket pair": """
import socket
ours, theirs = socket.socketpair()
if os.fork() == 0:
    ours.close()
    theirs.sendall(b"x" * 2**22)
else:
    theirs.close()
    ready()
    ours.sendall(b"x" * 2**22)
""",
    "a queue between processes, joined before it is read": """
import multiprocessing
def put(queue):
    queue.put("x" * 2**20)
multiprocessing.set_start_method("fork")
queue = multiprocessing.Queue()
child = multiprocessing.Process(target=put, args=(queue,))
child.start()
ready()
child.join()
""",
    "a pipeline whose end is its beginning": """
os.mkfifo("ring")
ready()
os.execvp("sh", ["sh", "-c", "yes xxxxxxxxxxxxxxx | cat > ring & exec 3<>ring; wait"])
""",
    "a child that waits for the end of its input": """
child = Popen(["cat"], stdin=PIPE)
ready()
child.wait()
""",
    "a grandchild that writes, and a parent that waits for the child": """
child = Popen([sys.executable, "-c",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(chr(120) * 2**20)'])"],
    stdout=PIPE)
ready()
child.wait()
""",
    "a select on the wrong pipe": """
import select
child = Popen([sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20)"],
              stdout=PIPE, stderr=PIPE)
ready()
select.select([child.stdout], [], [])
""",
    "a pseudo-terminal that nobody reads": """
import pty
master, slave = pty.openpty()
child = Popen([sys.executable, "-c", "import os; os.write(1, b'x' * 2**20)"], stdout=slave)
ready()
child.wait()
""",
}

STALLS = {
    "a parent with a timer of ten minutes": """
child = Popen([sys.executable, "-c", "print('x' * 2**20)"], stdout=PIPE)
ready()
time.sleep(600)
""",
    "a parent that asks again and again": """
child = Popen([sys.executable, "-c", "print('x' * 2**20)"], stdout=PIPE)
ready()
while child.poll() is None:
    time.sleep(0.05)
""",
    "an event loop with a heartbeat": """
import asyncio
async def beat():
    while True:
        await asyncio.sleep(0.1)
async def main():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20); print('done')",
        stdout=PIPE, stderr=PIPE)
    asyncio.ensure_future(beat())
    ready()
    await child.stdout.read()
asyncio.run(main())
""",
    "a thread with a heartbeat beside the deadlock": """
child = Popen([sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20); print('done')"],
              stdout=PIPE, stderr=PIPE)
def beat():
    while True:
        time.sleep(0.1)
Thread(target=beat, daemon=True).start()
ready()
child.stdout.read()
""",
    "two locks in two orders": """
first, second = Lock(), Lock()
def take(one, other):
    with one:
        time.sleep(0.2)
        with other:
            pass
threads = [Thread(target=take, args=each) for each in ((first, second), (second, first))]
for each in threads:
    each.start()
ready()
threads[0].join()
""",
    "a reader that was stopped": """
import signal
child = Popen([sys.executable, "-c", "print('x' * 2**20)"], stdout=PIPE)
ready()
os.kill(os.getpid(), signal.SIGSTOP)
""",
    "a web server with such a child": """
import asyncio
async def main():
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**20); print('done')",
        stdout=PIPE, stderr=PIPE)
    ready()
    await child.stdout.read()
asyncio.run(main())
""",
}

HEALTHY = {
    "a timer": """
ready()
time.sleep(600)
""",
    "a signal": """
import signal
ready()
signal.pause()
""",
    "a socket server": """
import socket
server = socket.create_server(("127.0.0.1", 0))
ready()
server.accept()
""",
    "a unix server, and a client that waits for it": """
import socket
server = socket.socket(socket.AF_UNIX)
server.bind("here")
server.listen()
if os.fork() == 0:
    client = socket.socket(socket.AF_UNIX)
    client.connect("here")
    client.recv(1)
else:
    ready()
    link, _ = server.accept()
    server.accept()
""",
    "an asyncio server with a drained child": """
import asyncio
async def main():
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    child = await asyncio.create_subprocess_exec("sleep", "600", stdout=PIPE, stderr=PIPE)
    ready()
    await child.communicate()
asyncio.run(main())
""",
    "trio sleeps": """
import trio
ready()
trio.run(trio.sleep, 600)
""",
    "an mcp-like server waits for a request of a client that waits for its user": """
import socket
user = socket.create_server(("127.0.0.1", 0))
child = Popen([sys.executable, "-c", "import sys; sys.stdin.readline()"], stdin=PIPE, stdout=PIPE)
ready()
user.accept()
""",
    "a slow child in a pipeline": """
ready()
os.execvp("sh", ["sh", "-c", "sleep 600 | cat | cat"])
""",
    "a slow reader in a pipeline": """
ready()
os.execvp("bash", ["bash", "-c", "yes | while read line; do sleep 0.5; done"])
""",
    "a reader that takes its time": """
child = Popen(["yes"], stdout=PIPE)
ready()
while child.stdout.read1(65536):
    time.sleep(0.4)
""",
    "a reader that sleeps before it reads": """
child = Popen(["yes"], stdout=PIPE)
ready()
time.sleep(9)
while child.stdout.read1(65536):
    pass
""",
    "a reader that computes": """
child = Popen(["yes"], stdout=PIPE)
ready()
while True:
    pass
""",
    "a reader that waits for another child first": """
first = Popen(["sleep", "600"], stdout=PIPE)
second = Popen(["yes"], stdout=PIPE)
ready()
first.stdout.read()
second.stdout.read()
""",
    "a fast writer and a fast reader": """
ready()
os.execvp("sh", ["sh", "-c", "yes | cat > /dev/null"])
""",
    "a program that computes": """
ready()
while True:
    pass
""",
    "a pipeline that computes": """
child = Popen([sys.executable, "-c", "while True: pass"], stdout=PIPE)
ready()
child.stdout.read()
""",
    "an idle shell": """
child = Popen(["bash"], stdin=PIPE, stdout=PIPE)
ready()
time.sleep(600)
""",
    "an idle shell at a terminal": """
import pty
pid, master = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--norc", "-i"])
ready()
time.sleep(600)
""",
    "a pager at a terminal": """
import pty
pid, master = pty.fork()
if pid == 0:
    os.execvp("sh", ["sh", "-c", "yes | (read line; exec cat /dev/tty)"])
ready()
time.sleep(600)
""",
    "a pool of threads without work": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(4)
list(pool.map(str, range(20)))
ready()
time.sleep(600)
""",
    "a pool of processes without work": """
import multiprocessing
multiprocessing.set_start_method("fork")
pool = multiprocessing.Pool(2)
pool.map(str, range(20))
ready()
time.sleep(600)
""",
    "a pool of processes at work": """
from concurrent.futures import ProcessPoolExecutor
pool = ProcessPoolExecutor(2)
future = pool.submit(time.sleep, 600)
ready()
future.result()
""",
    "a queue with a consumer that waits for a timer": """
import queue
jobs = queue.Queue()
Thread(target=jobs.get, daemon=True).start()
ready()
while True:
    time.sleep(0.3)
""",
    "a daemon that waits for its signal": """
import signal
from threading import Event
end = Event()
signal.signal(signal.SIGTERM, lambda *_: end.set())
ready()
end.wait()
""",
    "a supervisor of a server": """
from threading import Event
server = "import socket; socket.create_server(('127.0.0.1', 0)).accept()"
child = Popen([sys.executable, "-c", server])
ready()
Event().wait()
""",
    "a grandchild keeps the pipe of a child that has ended": """
child = Popen(["sh", "-c", "sleep 600 & exit 0"], stdout=PIPE)
ready()
child.stdout.read()
""",
    "a zombie": """
child = Popen(["true"])
ready()
time.sleep(600)
""",
    "a job that was stopped": """
import signal
child = Popen([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"])
ready()
child.wait()
""",
}

PROLOGUE = """
import os, sys, time
from subprocess import PIPE, Popen
from threading import Lock, Thread

def ready():
    print("ready", flush=True)

def ring():
    # Three processes go on from here; each has the pipe from the one before, to the one after.
    pipes = [os.pipe() for _ in range(3)]
    ready()
    for place in range(2):
        if os.fork() == 0:
            break
    else:
        place = 2
    keep = (pipes[place - 1][0], pipes[place][1])
    for pair in pipes:
        for fd in pair:
            if fd not in keep:
                os.close(fd)
    return keep
"""
