"""How a stack of networks is trained and replayed; whoever writes a method never imports from here."""
