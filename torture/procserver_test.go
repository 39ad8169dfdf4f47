package torture

func runServer() int { return 0 }
