-- The tokens of a run's entries, as one string with a space before each of them.
--
-- Gives: has_token, other_tokens, split_run

local function has_token(tokens, token)
  return string.find(tokens .. ' ', ' ' .. token .. ' ', 1, true)
end

-- Returns the tokens, of some, that are not among others.
local function other_tokens(tokens, others)
  return (string.gsub(tokens, ' (%S+)', function(token)
    return has_token(others, token) and '' or nil
  end))
end

-- Returns a run, and its tokens or nil: see `with_tokens`.
local function split_run(text)
  local at = string.find(text, '\0', 1, true)
  if at then
    return string.sub(text, 1, at - 1), string.sub(text, at + 1)
  end
  return text, nil
end
