import LangevinTraining
import Testing

@Suite struct CollectiveTests {
  @Test func aloneTheSumIsTheRanksOwn() {
    var values: [Float] = [1, -2, .pi]
    Alone().sum(&values)
    #expect(values == [1, -2, .pi])
  }
}
