-- Notes that the index of runs leads to a thread, for some time from now on.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  milliseconds
-- Returns  1

-- include control

if control.deadline then
  keep_control()
  set_control('indexed', integer(now() + ARGV[1]))
end
return 1
