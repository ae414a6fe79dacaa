"""Ways to a server: URLs, clients, connections and retries. Nothing here knows what is stored."""
