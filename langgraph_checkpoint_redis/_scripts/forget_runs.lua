-- Forgets the tokens of entries that are gone from the index of runs, and runs that have nothing left.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1...] runs with tokens
-- Returns  1

-- Needs: tokens, run_counts, runs, keys

for _, text in ipairs(ARGV) do
  local run, gone = split_run(text)
  local count, tokens = read_run(run)
  local left = tokens and other_tokens(tokens, gone)
  if tokens and left == '' and count <= 0 then
    redis.call('HDEL', RUNS, run)
  elseif tokens and left ~= '' and left ~= tokens then
    write_run(run, count, left)
  end
end
return 1
