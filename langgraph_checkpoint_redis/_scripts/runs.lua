-- Reads which runs have checkpoints in a thread, and by which entries the index of runs leads to it.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- Returns  {here, gone, span, time}: the runs with their tokens; those that have no checkpoint left; the
--          milliseconds that the thread lives on when it is used, 0 for ever; and the server's time

-- Needs: run_counts, runs, clock, control, writing_life

read_control()
return {find_runs_here(true), find_runs_gone(), span_of('0', ''), now()}
