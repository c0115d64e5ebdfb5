def ask(pid: int): return None
