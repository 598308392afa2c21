package benchmark;

import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/** Sum and count of one group in one window; sixteen bytes in the store. */
record Sums(long sum, long count) {

    static final Sums NOTHING = new Sums(0, 0);

    static Serde<Sums> serde() {
        Serializer<Sums> to =
                (topic, sums) ->
                        sums == null
                                ? null
                                : ByteBuffer.allocate(16).putLong(sums.sum).putLong(sums.count).array();
        Deserializer<Sums> from =
                (topic, bytes) -> {
                    if (bytes == null) {
                        return null;
                    }
                    ByteBuffer in = ByteBuffer.wrap(bytes);
                    return new Sums(in.getLong(), in.getLong());
                };
        return Serdes.serdeFrom(to, from);
    }

    Sums with(long quantity) {
        return new Sums(sum + quantity, count + 1);
    }
}
