-- Deletes a thread, but for the ids of its runs: they stay until the index of runs is cleared.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the caller's lease, or empty
-- ARGV[2]  for how many milliseconds late writers are refused
-- Returns  the runs that the thread had checkpoints of, with the tokens of their entries

-- Needs: delete_all, first_write, lease, clock, rows, control, namespaces

local function newest_checkpoint()
  local newest = control.newest or ''
  each_namespace(function(ns)
    local id = id_of(latest_row(ns))
    if is_before(newest, id) then
      newest = id
    end
  end)
  return newest
end

read_control()
write_even_if_full()
write_for_wait()
check_lease(ARGV[1])
local newest = ARGV[2] ~= '0' and newest_checkpoint()
local runs = delete_all()
if newest then
  set_control('newest', newest)
  set_control('deleted', integer(now() + ARGV[2]))
  keep_control()
end
return runs
