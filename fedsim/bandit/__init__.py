"""Best arm identification where some rewards lie: intervals, rules, arms to try them on, and lies. Nothing here does I/O.

Source: Mukherjee, Tajer, Chen and Das, Mean-based Best Arm Identification in Stochastic Bandits under Reward Contamination,
NeurIPS 2021, arXiv 2111.07458. The radii are a reconstruction: the paper's own were not at hand.
"""
