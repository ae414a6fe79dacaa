-- Deleting a thread.
--
-- Needs: run_counts, control, runs, watch, keys
-- Gives: delete_all

-- Deletes all but the ids of the thread's runs, which stay until the index of runs is cleared. Returns
-- them, with the tokens of their entries.
local function delete_all()
  redis.call('HLEN', RUNS) -- raises an error before anything is changed, if it is no hash
  redis.call('UNLINK', TIMELINE, WRITES, CHUNKS, LIVE)
  forget_life()
  end_watch()
  keep_control()
  each_run(function(run, _, tokens)
    write_run(run, 0, tokens)
  end)
  return find_runs_gone()
end
