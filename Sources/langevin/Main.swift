import ArgumentParser
@main struct Langevin: ParsableCommand {}
