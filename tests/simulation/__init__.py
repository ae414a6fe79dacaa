"""A simulator: many clients and a real server, driven request by request by one seed.

Modelled on the simulators of FoundationDB and TigerBeetle. A scheduler decides what becomes of each
request that a client sends: it arrives, it is lost, its reply is lost, it arrives twice or much
later, or its client ends for good. Between requests, clocks jump, keys expire or are evicted, and
the server restarts or falls back to an older state. An oracle knows what was acknowledged and what
each fault may take back, and fresh readers are compared with it again and again.

One seed decides everything, so a failure can be replayed, and is shrunk to the few moves that it
takes.

| file | what it knows |
| --- | --- |
| `moves.py` | the moves that a seed stands for |
| `thresholds.py` | how short threads take the paths of long ones |
| `server.py` | the server: its clock, its order of hashes, its past states, its restarts |
| `machines.py` | the clock and the random numbers of each client |
| `workers.py` | worker threads of which one runs at a time |
| `oracle.py` | what must, may and must not be stored |
| `operations.py` | what each call of a saver changes there |
| `savers.py` | savers whose calls the oracle sees |
| `clients.py`, `graphs.py` | what clients do: bare calls, and runs of real graphs |
| `reading.py`, `comparing.py` | reading everything with a fresh saver, and comparing it |
| `faults.py` | what happens between requests |
| `scheduler.py` | one run: moves, one after the other |
| `simulating.py` | everything around a run, for any number of them |
| `shrink.py` | the few moves that fail the same way |
| `mutations.py` | mendings that are taken out again, so that it can be seen what finds them |
| `report.py`, `__main__.py` | what is printed; the command line |
"""
