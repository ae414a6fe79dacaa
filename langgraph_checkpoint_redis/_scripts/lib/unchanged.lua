-- Channels that a checkpoint leaves as they are. In the head that a writer sends, their entry is a number: the value
-- is the one that the parent has of the same version, if there is one.
--
-- Needs: rows, chunks, keys
-- Gives: fill_in_unchanged, find_lost_channels

-- Returns the entries in two rows by version and channel. Those in the first row take precedence; either may be nil.
local function entries_in(first_row, second_row)
  local entries = {}
  for _, row in ipairs({first_row or false, second_row or false}) do
    if row then
      local channels = head_of(row)[CHANNELS]
      for i = 1, #channels, 3 do
        local name = channels[i + 1] .. channels[i]
        entries[name] = entries[name] or channels[i + 2]
      end
    end
  end
  return entries
end

-- Puts the entries of unchanged channels in their places. Returns them by channel, `false` for one that has none and
-- certainly had. A repeated put finds in the row of the checkpoint itself what it found in the parent, even if the
-- parent is gone by now.
local function fill_in_unchanged(head, old_row, parent_row)
  local filled, channels, known = {}, head[CHANNELS], nil
  for i = 1, #channels, 3 do
    local entry = channels[i + 2]
    if entry and type(entry) ~= 'table' then
      known = known or entries_in(old_row, parent_row)
      channels[i + 2] = known[channels[i + 1] .. channels[i]] or false
      filled[channels[i]] = channels[i + 2] or entry ~= 1 and {} or false
    end
  end
  return filled
end

-- Returns whether the chunks of an unchanged value are there. They are as long as its row is, unless they were evicted
-- or deleted by hand. So only a thread that may lack chunks has to look at more than one of them.
local function has_chunks(entry, may_lack)
  if not entry then
    return false
  elseif may_lack then
    return find_lacking(function(_, visit) visit(entry) end) == ''
  end
  local top = #entry
  while top > 4 and entry[top] == '' do
    top = top - 1
  end
  return top < 4 or redis.call('HEXISTS', CHUNKS, string.sub(entry[top], -16)) == 1
end

-- Returns the channels, of those that were filled in, whose value is not there.
local function find_lost_channels(filled, may_lack)
  local channels = {}
  for channel, entry in pairs(filled) do
    if not has_chunks(entry, may_lack) then
      channels[#channels + 1] = channel
    end
  end
  return channels
end
