-- Notes that entries in the index of runs lead to a thread for longer, or that new ones do.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the score that they have at least
-- ARGV[2]  the token of the new ones
-- ARGV[3]  a third of the milliseconds that they stay: the time to live that they are for
-- ARGV[4...] runs: with their tokens where entries stay for longer, alone where there is a new one
-- Returns  {superseded, runs, lifetime}: the runs with the tokens of entries that are not needed, or
--          not any more; the runs whose entries have to be renewed once more, and for how many
--          milliseconds

-- Needs: run_counts, clock, control, tokens, runs, life, keys

read_control()
local score, token, span = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local is_enough = control.deadline and score >= time_of('deadline')
local superseded, done = {}, {}

for i = 4, #ARGV do
  local run, renewed = split_run(ARGV[i])
  local count, tokens = read_run(run)
  local useless = ''
  if renewed then
    useless = other_tokens(renewed, tokens or '')
    done[run] = useless == '' and other_tokens(tokens, renewed) == ''
  elseif count > 0 and has_token(tokens, token) then -- a call that is repeated
    useless, done[run] = other_tokens(tokens, ' ' .. token), true
  elseif count > 0 and is_enough then
    write_run(run, count, ' ' .. token .. tokens)
    useless, done[run] = tokens, true
  else
    useless = ' ' .. token
  end
  if useless ~= '' then
    superseded[#superseded + 1] = with_tokens(run, useless)
  end
end

local is_complete = is_enough
for _, run in ipairs(find_runs_here(false)) do
  is_complete = is_complete and done[run]
end
if is_complete then
  set_control('indexed', integer(score))
  if time_of('wanted') > time_of('deadline') then
    expire_at(integer(math.min(time_of('wanted'), score)))
  end
  keep_control()
end
if control.wanted then
  redis.call('HDEL', CONTROL, 'wanted')
end
if is_complete or not control.deadline then
  return {superseded, {}, 0}
end
-- Somebody may have given the thread another time meanwhile.
span = math.max(tonumber(control.ttl or span), time_of('deadline') - now(), 1)
return {superseded, runs_to_renew(span, true)}
