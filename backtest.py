"""python backtest.py … is the command pregao backtest …."""

from pregao.cli.backtest import main

if __name__ == "__main__":
    main()
