-- Tells which entries in the index of runs a thread does not know of.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1...] runs with tokens
-- Returns  the runs, each with those of the tokens; without the runs that have none

-- Needs: tokens, runs

local unheld = {}
for _, text in ipairs(ARGV) do
  local run, asked = split_run(text)
  local _, tokens = read_run(run)
  local others = other_tokens(asked, tokens or '')
  if others ~= '' then
    unheld[#unheld + 1] = with_tokens(run, others)
  end
end
return unheld
